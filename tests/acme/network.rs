//! The network before an ACME server fails once, at each request of an issuance: nothing is lost, one certificate is signed,
//! and when the network is well again all is as it should be.
//!
//! `CERTD_TEST_MATRIX=full` spoils each request in every way; otherwise each is spoilt in one.

use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};

use crate::openbao::{Mount, OpenBao};
use crate::support::fault_proxy::{Fault, FaultProxy, Spot};

/// What must be among them.
const AT_LEAST: [&str; 9] = [
    "GET /acme/directory",
    "HEAD /acme/new-nonce",
    "POST /acme/new-account",
    "POST /acme/new-order",
    "POST /acme/authorization/",
    "POST /acme/challenge//dns-01",
    "POST /acme/order/",
    "POST /acme/order//finalize",
    "POST /acme/order//cert",
];

const AT_ONCE: usize = 6;

/// Three deadlines of thirty seconds.
const ENDS_WITHIN: Duration = Duration::from_secs(100);

/// OpenBao itself looks again, later and later, at a name that could not be proved at once.
const ATTEMPTS: usize = 5;

/// Of all requests, from the first on.
fn spot(nth: usize) -> Spot {
    Spot { beginning: String::new(), nth }
}

/// Without the mount, and without numbers of the server's own.
fn kind(request: &str, mount: &Mount) -> String {
    let path = request.replace(&format!("/v1/{}", mount.pki.mount), "");
    let is_number = |part: &&str| part.len() == 36 && part.matches('-').count() == 4;
    path.split('/').map(|part| if is_number(&part) { "" } else { part }).collect::<Vec<_>>().join("/")
}

/// What an issuance asks that nobody spoils.
async fn requests(bao: &OpenBao) -> Vec<String> {
    let proxy = FaultProxy::secured(&bao.plain, Vec::new(), &bao.identity);
    let mount = bao.mount(&proxy.address).await;
    mount.configure(&mount.external_account().await, "quiet.example.test");
    mount.home.renewed().await;
    proxy.requests().iter().map(|request| kind(request, &mount)).collect()
}

/// So many of the last are not always there: where a name is proved at once, nobody looks again.
const SOMETIMES: usize = 4;

/// What was spoilt, and how many certds it took; the first meets the fault. None where fewer requests were made than `of`
/// them.
async fn spoilt(bao: &OpenBao, (nth, of): (usize, usize), fault: Fault) -> Result<Option<(String, usize)>, String> {
    let proxy = FaultProxy::secured(&bao.plain, vec![(spot(nth), fault)], &bao.identity);
    let mount = bao.mount(&proxy.address).await;
    mount.configure(&mount.external_account().await, &format!("n{nth}-{fault:?}.example.test").to_lowercase());
    let mut ran = Vec::new();
    for attempt in 1..=ATTEMPTS {
        let begun = Instant::now();
        ran.push(mount.home.certd(&["renew", "web"]).await);
        let last = ran.last().unwrap();
        if begun.elapsed() > ENDS_WITHIN || [&last.out, &last.err].iter().any(|text| text.contains("panicked")) {
            return Err(format!("after {:?}: {last:?}", begun.elapsed()));
        }
        if last.code == 0 {
            // The CA's own is among them.
            let signed = mount.listed("certs").await.len() - 1;
            let pending = std::fs::read_dir(mount.home.path("state/pending")).unwrap().count();
            return match (signed, pending, proxy.was_met()) {
                (1, 0, true) => Ok(Some((kind(&proxy.requests()[nth - 1], &mount), attempt))),
                (1, 0, false) if nth + SOMETIMES > of => Ok(None),
                counts => Err(format!("signed, keys that are still pending, met: {counts:?}: {ran:?}")),
            };
        }
    }
    Err(format!("it does not converge: {ran:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_request_the_network_spoils_one_certificate_is_signed_and_stored() {
    let bao = OpenBao::start().await;
    let requests = requests(&bao).await;
    let missed: Vec<_> = AT_LEAST.iter().filter(|kind| !requests.iter().any(|it| it == *kind)).collect();
    assert!(missed.is_empty(), "an issuance makes no such requests: {missed:?}, but {requests:?}");
    let is_full = std::env::var("CERTD_TEST_MATRIX").is_ok_and(|which| which == "full");
    let cases = (1..=requests.len()).flat_map(|nth| {
        let faults = Fault::ALL.into_iter().enumerate();
        let chosen = faults.filter(move |(at, _)| is_full || (at + nth).is_multiple_of(Fault::ALL.len()));
        chosen.map(move |(_, fault)| (nth, fault))
    });
    let run = async |(nth, fault): (usize, Fault)| (nth, fault, spoilt(&bao, (nth, requests.len()), fault).await);
    let ended: Vec<_> = stream::iter(cases).map(run).buffer_unordered(AT_ONCE).collect().await;
    let mut failed = Vec::new();
    for (nth, request) in requests.iter().enumerate().map(|(at, request)| (at + 1, request)) {
        let of_it = ended.iter().filter(|(of, _, _)| *of == nth);
        let words = of_it.map(|(_, fault, ended)| match ended {
            Ok(Some((_, attempts))) => format!("{fault:?} {attempts}"),
            Ok(None) => format!("{fault:?} not met"),
            Err(why) => {
                failed.push(format!("{nth} {request} {fault:?}: {why}"));
                format!("{fault:?} FAILED")
            }
        });
        println!("{nth:2} {request:28} {}", words.collect::<Vec<_>>().join(", "));
    }
    let met = || ended.iter().filter_map(|(_, _, ended)| ended.as_ref().ok()?.as_ref());
    let at_once = met().filter(|(_, attempts)| *attempts == 1).count();
    println!("{} requests, {} cases, {at_once} went on at once", requests.len(), ended.len());
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    let unspoilt: Vec<_> = AT_LEAST.iter().filter(|kind| !met().any(|(spoilt, _)| spoilt == *kind)).collect();
    assert!(unspoilt.is_empty(), "none of these was spoilt: {unspoilt:?}");
}
