//! Three nodes of one OpenBao on loopback, with raft storage. Each is a process that a test may kill, start again,
//! seal and unseal; nothing is left of them when the test process ends, however it ends.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::server::{Lifeline, command, free_port, unique};
use super::vault::Vault;

const WITHIN: Duration = Duration::from_secs(60);
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Starts and kills the server as it is told, and when nobody is left to tell, removes all of it.
const SCRIPT: &str = r#"dir=$1; bao=$2; pid=
end() { [ -z "$pid" ] || { kill -9 $pid; wait $pid; pid=; }; }
while read -r word; do
    case $word in
    start) "$bao" server -config="$dir/config.hcl" >>"$dir/log" 2>&1 </dev/null & pid=$! ;;
    kill) end ;;
    esac
done
end; rm -rf "$dir""#;

pub struct Cluster {
    pub nodes: Vec<Node>,
    pub root_token: String,
    unseal_key: String,
}

pub struct Node {
    /// `http://HOST:PORT`.
    pub address: String,
    /// Configuration, storage and log.
    folder: PathBuf,
    process: Lifeline,
}

impl Node {
    /// Starts one that belongs to no cluster yet and holds nothing.
    pub async fn start() -> Self {
        let (port, internal) = (free_port(), free_port());
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(unique("node"));
        fs::create_dir_all(folder.join("raft")).unwrap();
        let config = format!(
            r#"
            storage "raft" {{
                path = "{raft}"
                node_id = "{port}"
                performance_multiplier = 1
                autopilot_reconcile_interval = "200ms"
                autopilot_update_interval = "100ms"
            }}
            listener "tcp" {{ address = "127.0.0.1:{port}" cluster_address = "127.0.0.1:{internal}" tls_disable = true }}
            api_addr = "http://127.0.0.1:{port}"
            cluster_addr = "https://127.0.0.1:{internal}"
            disable_mlock = true
            "#,
            raft = folder.join("raft").display(),
        );
        fs::write(folder.join("config.hcl"), config).unwrap();
        let process = Lifeline::new(SCRIPT, [folder.as_os_str(), OsStr::new(&command())]);
        let mut node = Self { address: format!("http://127.0.0.1:{port}"), folder, process };
        node.start_again().await;
        node
    }

    /// Sealed, as every server begins.
    pub async fn start_again(&mut self) {
        self.process.say("start");
        let deadline = Instant::now() + WITHIN;
        while self.health().await == 0 {
            assert!(Instant::now() < deadline, "no answer after {WITHIN:?}; its last words:\n{}", self.last_words());
            tokio::time::sleep(ASK_AGAIN_AFTER).await;
        }
    }

    /// By SIGKILL; what it has on disk stays.
    pub async fn kill(&mut self) {
        self.process.say("kill");
        until("a node that is dead", async || self.health().await == 0).await;
    }

    /// The end of its log, for the message of a failed test.
    pub fn last_words(&self) -> String {
        let text = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        text.lines().rev().take(20).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    pub fn admin(&self, token: &str) -> Vault {
        Vault::at(&self.address, token)
    }

    /// As `sys/health` says: 200 active, 429 standby, 503 sealed, 0 where nobody answers.
    pub async fn health(&self) -> u16 {
        self.admin("").try_call("", "GET", "sys/health", Value::Null).await.map_or(0, |(status, _)| status)
    }
}

impl Cluster {
    pub async fn start() -> Self {
        let first = Node::start().await;
        let asked = json!({ "secret_shares": 1, "secret_threshold": 1 });
        let (status, made) = first.admin("").call("", "PUT", "sys/init", asked).await;
        assert_eq!(status, 200, "{made}");
        let text = |value: &Value| value.as_str().unwrap().to_string();
        let (root_token, unseal_key) = (text(&made["root_token"]), text(&made["keys"][0]));
        let mut cluster = Self { nodes: vec![first], root_token, unseal_key };
        cluster.unseal(0).await;
        cluster.is(0, 200).await;
        // A new node would vote only after ten seconds.
        let at_once = json!({ "server_stabilization_time": "1ms" });
        cluster.admin(0).admin("POST", "sys/storage/raft/autopilot/configuration", at_once).await;
        for at in [1, 2] {
            let node = Node::start().await;
            let leader = json!({ "leader_api_addr": cluster.nodes[0].address });
            node.admin("").admin("PUT", "sys/storage/raft/join", leader).await;
            cluster.nodes.push(node);
            cluster.unseal(at).await;
            cluster.is(at, 429).await;
        }
        cluster.all_vote().await;
        cluster
    }

    pub async fn unseal(&self, at: usize) {
        let key = json!({ "key": self.unseal_key });
        self.nodes[at].admin("").admin("PUT", "sys/unseal", key).await;
    }

    /// Waits until a node has this health.
    pub async fn is(&self, at: usize, health: u16) {
        until(&format!("node {at} to be {health}"), async || self.nodes[at].health().await == health).await;
    }

    /// A node that died in the middle of an election may come back as the active one.
    pub async fn is_unsealed(&self, at: usize) {
        until(&format!("node {at} unsealed"), async || [200, 429].contains(&self.nodes[at].health().await)).await;
    }

    /// The active node, once there is one.
    pub async fn leader(&self) -> usize {
        let deadline = Instant::now() + WITHIN;
        loop {
            for at in 0..self.nodes.len() {
                if self.nodes[at].health().await == 200 {
                    return at;
                }
            }
            assert!(Instant::now() < deadline, "no node became active in {WITHIN:?}");
            tokio::time::sleep(ASK_AGAIN_AFTER).await;
        }
    }

    pub async fn standby(&self) -> usize {
        let leader = self.leader().await;
        (leader + 1) % self.nodes.len()
    }

    /// The administrator at one node.
    pub fn admin(&self, at: usize) -> Vault {
        self.nodes[at].admin(&self.root_token)
    }

    pub async fn admin_at_leader(&self) -> Vault {
        self.admin(self.leader().await)
    }

    /// Until then the loss of one node might be that of the majority.
    pub async fn all_vote(&self) {
        let admin = self.admin_at_leader().await;
        until("three voters", async || {
            let (_, answer) = admin.call(&admin.root_token, "GET", "sys/storage/raft/configuration", Value::Null).await;
            let servers = answer["data"]["config"]["servers"].as_array().cloned().unwrap_or_default();
            servers.iter().filter(|server| server["voter"] == true).count() == 3
        })
        .await;
    }
}

async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + WITHIN;
    while !is_so().await {
        assert!(Instant::now() < deadline, "waited {WITHIN:?} for {what}");
        tokio::time::sleep(ASK_AGAIN_AFTER).await;
    }
}
