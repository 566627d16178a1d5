//! One development server of OpenBao or Vault: a container or a process, gone when its owner is gone.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::Write,
    net::TcpListener,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{self, Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use testcontainers::{ContainerAsync, GenericImage, ImageExt, core::IntoContainerPort, runners::AsyncRunner};

const DEFAULT_IMAGE: &str = "openbao/openbao:2.7.2";
const PORT_INSIDE: u16 = 8200;

const HOW_TO_GET_ONE: &str = "\
the Vault tests need a real server, and none was found. Any one of these will do:
  - run tests/run instead of cargo test: it downloads OpenBao under target/
  - put `bao` or `vault` in PATH, or name the binary in CERTD_TEST_BAO
  - start a Docker engine that has, or can pull, openbao/openbao:2.7.2 (or name another image in CERTD_TEST_VAULT_IMAGE)
    and set CERTD_TEST_VAULT=container";

/// Dropping it ends the server.
pub struct Server {
    /// `http://HOST:PORT`.
    pub address: String,
    pub root_token: String,
    /// Where a process writes what it has to say; a container keeps its own log.
    pub log: Option<PathBuf>,
    _lifeline: Lifeline,
    /// Dropped after its lifeline, which waits until the container is gone; its own removal then finds nothing.
    _container: Option<ContainerAsync<GenericImage>>,
}

/// A shell whose `cat` returns when the pipe to it is closed: by a drop, or by the kernel when this process ends,
/// however it ends. Statics are never dropped, and no exit hook runs after a SIGKILL.
pub struct Lifeline(Child);

impl Server {
    /// Starts a server in the mode that CERTD_TEST_VAULT asks for; it may not be ready yet.
    pub async fn start() -> Self {
        match env::var("CERTD_TEST_VAULT").as_deref() {
            Ok("container") => Self::container(&image()).await,
            Ok("process") => Self::process(binary().expect(HOW_TO_GET_ONE)),
            Ok(other) => panic!("CERTD_TEST_VAULT is `container` or `process`, not `{other}`"),
            Err(_) if engine_has(&image()) => Self::container(&image()).await,
            Err(_) => Self::process(binary().expect(HOW_TO_GET_ONE)),
        }
    }

    async fn container(image: &str) -> Self {
        let (name, tag) = image.rsplit_once(':').expect("CERTD_TEST_VAULT_IMAGE is NAME:TAG");
        let own = unique("certd-test");
        let root_token = unique("root");
        let listen = format!("0.0.0.0:{PORT_INSIDE}");
        // It is told the name before there is a container, so that no moment is left in which one could be lost.
        let lifeline = Lifeline::new("cat; docker rm --force --volumes \"$1\"", [OsStr::new(&own)]);
        let container = GenericImage::new(name, tag)
            .with_exposed_port(PORT_INSIDE.tcp())
            .with_container_name(&own)
            .with_cmd(["server", "-dev", "-dev-no-store-token"])
            // The two servers differ in these names alone.
            .with_env_var("BAO_DEV_ROOT_TOKEN_ID", &root_token)
            .with_env_var("VAULT_DEV_ROOT_TOKEN_ID", &root_token)
            .with_env_var("BAO_DEV_LISTEN_ADDRESS", &listen)
            .with_env_var("VAULT_DEV_LISTEN_ADDRESS", &listen)
            .start()
            .await
            .unwrap_or_else(|e| panic!("could not start a container of {image}: {e}\n\n{HOW_TO_GET_ONE}"));
        let port = container.get_host_port_ipv4(PORT_INSIDE).await.unwrap();
        let address = format!("http://{}:{port}", reachable(&container, port).await);
        Self { address, root_token, log: None, _lifeline: lifeline, _container: Some(container) }
    }

    fn process(binary: PathBuf) -> Self {
        let root_token = unique("root");
        let listen = format!("127.0.0.1:{}", free_port());
        let log = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(unique("vault")).with_extension("log");
        let address = format!("http://{listen}");
        let token = format!("-dev-root-token-id={root_token}");
        let listen = format!("-dev-listen-address={listen}");
        // The shell is the parent of the server, so that the number it kills cannot have become another's.
        let lifeline = Lifeline::new(
            r#"log=$1; shift; "$@" >"$log" 2>&1 </dev/null & cat; kill -9 $!; wait $!; rm -f "$log""#,
            [log.as_os_str(), binary.as_os_str()]
                .into_iter()
                .chain(["server", "-dev", "-dev-no-store-token", &token, &listen].into_iter().map(OsStr::new)),
        );
        Self { address, root_token, log: Some(log), _lifeline: lifeline, _container: None }
    }

    /// The last words of the server, for the message of a failed test.
    pub fn last_words(&self) -> String {
        let Some(log) = &self.log else { return "see `docker logs` of the container".to_owned() };
        let text = fs::read_to_string(log).unwrap_or_default();
        text.lines().rev().take(20).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

/// Loopback wherever the port is published there, since certd speaks plain http to no other host: from within a
/// container the library names the engine's bridge, even where the engine runs in that same container.
async fn reachable(container: &ContainerAsync<GenericImage>, port: u16) -> String {
    match tokio::net::TcpStream::connect(("127.0.0.1", port)).await {
        Ok(_) => "127.0.0.1".to_owned(),
        Err(_) => container.get_host().await.unwrap().to_string(),
    }
}

fn image() -> String {
    env::var("CERTD_TEST_VAULT_IMAGE").unwrap_or_else(|_| DEFAULT_IMAGE.to_owned())
}

/// The command itself, which some stories need in either mode.
pub fn command() -> PathBuf {
    binary().unwrap_or_else(|| panic!("this test needs the `bao` or `vault` command\n\n{HOW_TO_GET_ONE}"))
}

fn binary() -> Option<PathBuf> {
    if let Some(named) = env::var_os("CERTD_TEST_BAO") {
        return Some(named.into());
    }
    let path = env::var_os("PATH")?;
    env::split_paths(&path).flat_map(|d| [d.join("bao"), d.join("vault")]).find(|file| file.is_file())
}

fn engine_has(image: &str) -> bool {
    let inspect =
        Command::new("docker").args(["image", "inspect", image]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    inspect.is_ok_and(|status| status.success())
}

impl Lifeline {
    pub fn new<'a>(script: &str, arguments: impl IntoIterator<Item = &'a OsStr>) -> Self {
        let shell = Command::new("/bin/sh")
            .args(["-c", script, "certd-test"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // An interrupt from the terminal must not reach the one who cleans up after it.
            .process_group(0)
            .spawn();
        Self(shell.expect("/bin/sh is there"))
    }
}

impl Lifeline {
    /// For a script that reads what it is to do.
    pub fn say(&mut self, line: &str) {
        let script = self.0.stdin.as_mut().expect("it is taken by the drop");
        writeln!(script, "{line}").expect("the shell reads");
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().expect("the shell is ours to wait for");
    }
}

pub fn unique(prefix: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let started = jiff::Timestamp::now().as_millisecond();
    format!("{prefix}-{}-{}-{started}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Never the same twice by one process, nor the one behind it, where OpenBao listens for its cluster; and none that the
/// kernel gives to whoever leaves the choice to it: those begin with 32768 (ip(7), `ip_local_port_range`).
pub fn free_port() -> u16 {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let first = process::id().wrapping_mul(1_009);
    let next = || first.wrapping_add(COUNT.fetch_add(3, Ordering::Relaxed)) % 20_000;
    let ports = std::iter::repeat_with(next).take(20_000).filter_map(|port| u16::try_from(10_000 + port).ok());
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    ports.into_iter().find(is_free).expect("loopback has a free port")
}
