//! A renewal over a network that fails once, at each kind of request that it makes: nothing is lost, the CA signs once,
//! and when the network is well again all is as it should be.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};

use crate::home::{Home, config_with_head, declared, rows};
use crate::support::fault_proxy::{Fault, FaultProxy};

/// As a request begins, with the mounts of the test in the place of the words in capitals.
const REQUESTS: [&str; 10] = [
    "GET /v1/sys/internal/ui/mounts/KV",
    "POST /v1/cubbyhole/certd",
    "GET /v1/KV/data/certd/pending",
    "POST /v1/KV/data/certd/pending",
    "POST /v1/PKI/sign",
    "GET /v1/PKI/cert/ca_chain",
    "GET /v1/KV/data/tls",
    "POST /v1/KV/data/tls",
    "PATCH /v1/KV/metadata/tls",
    "PUT /v1/KV/destroy",
];

const AT_ONCE: usize = 4;

/// Far over all deadlines of a renewal together.
const ENDS_WITHIN: Duration = Duration::from_secs(25);

async fn spoilt(request: &str, fault: Fault) -> Result<bool, String> {
    let home = Home::new("").await;
    home.give_token(&home.house.admin.root_token);
    let beginning = request.replace("KV", &home.house.kv).replace("PKI", &home.house.ca.mount);
    let proxy = FaultProxy::new(&home.house.admin.address, &beginning, fault);
    let config = config_with_head(&declared("web")).replace("deadline = \"5s\"", "deadline = \"1s\"");
    home.configure_by(&proxy.address, &config);
    let begun = Instant::now();
    let first = home.certd(&["renew"]).await;
    if begun.elapsed() > ENDS_WITHIN {
        return Err(format!("it took {:?}", begun.elapsed()));
    }
    if [&first.out, &first.err].iter().any(|text| text.contains("panicked")) {
        return Err(format!("it panics: {first:?}"));
    }
    if first.code != 0 && first.out.trim().is_empty() && first.err.trim().is_empty() {
        return Err("it fails and says nothing".to_string());
    }
    // By the straight way again.
    home.configure(&config);
    let second = home.certd(&["renew", "--due", "web"]).await;
    if home.plan().await != rows(&[("web", "keep")]) {
        return Err(format!("it does not converge: {first:?} {second:?}"));
    }
    match (home.version("tls/web").await, home.signed().await) {
        (1, 1) => Ok(proxy.was_met()),
        counts => Err(format!("versions and signed: {counts:?}: {first:?} {second:?}")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_request_the_network_spoils_the_ca_signs_once_and_it_is_stored() {
    let cases = REQUESTS.iter().flat_map(|request| Fault::ALL.map(|fault| (*request, fault)));
    let run = async |(request, fault)| (request, fault, spoilt(request, fault).await);
    let ended: Vec<_> = stream::iter(cases).map(run).buffer_unordered(AT_ONCE).collect().await;
    for request in REQUESTS {
        let of_it = ended.iter().filter(|(asked, _, _)| *asked == request);
        let words: Vec<String> = of_it
            .map(|(_, fault, ended)| match ended {
                Ok(true) => format!("{fault:?} ok"),
                Ok(false) => format!("{fault:?} not met"),
                Err(_) => format!("{fault:?} FAILED"),
            })
            .collect();
        println!("{request:34} {}", words.join(", "));
    }
    let failed: Vec<String> = ended
        .iter()
        .filter_map(|(request, fault, ended)| Some(format!("{request} {fault:?}: {}", ended.as_ref().err()?)))
        .collect();
    assert_eq!(failed, [""; 0]);
    let unmet: Vec<_> = ended.iter().filter(|(_, _, ended)| *ended == Ok(false)).map(|it| it.0).collect();
    assert_eq!(unmet, [""; 0], "requests that a renewal does not make");
}
