//! Damage behind a MAC that fits, as only a writer who knows the password can make it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use proptest::prelude::*;

use super::*;

/// Made by `openssl pkcs12 -export` with the password `a`: nothing encrypted, as OpenSSL 3 does it, and as OpenSSL 1 did.
const OPEN: &str = "\
    MIIC9QIBAzCCAqsGCSqGSIb3DQEHAaCCApwEggKYMIIClDCCAZ4GCSqGSIb3DQEHAaCCAY8EggGLMIIBhzCCAYMGCyqGSIb3DQEM\
    CgEDoIIBNDCCATAGCiqGSIb3DQEJFgGgggEgBIIBHDCCARgwgb8CFH80/leGn/YJ9laMUH/pl5Ap85KHMAoGCCqGSM49BAMCMA4x\
    DDAKBgNVBAMMA3dlYjAgFw0yNjExMjUwMjMzNTBaGA8yMTI2MTEwMTAyMzM1MFowDjEMMAoGA1UEAwwDd2ViMFkwEwYHKoZIzj0C\
    AQYIKoZIzj0DAQcDQgAEFG6rHkJ0/AUfK73U+cdgNkOGj1rMxBWmGKrMi6yi2kXtxzGES2uMOjEZuSoPqr6tjBkg196sPSmfU1BD\
    nnBOVjAKBggqhkjOPQQDAgNIADBFAiEA4qt5UQ111My4l+odJMlZJYBJDgjyiDuVMinfkaEfkj8CIBSXpISOF4K03p/gdX1rkRzd\
    e+Z14EKALFgMW67y4KssMTwwFQYJKoZIhvcNAQkUMQgeBgB3AGUAYjAjBgkqhkiG9w0BCRUxFgQUGnMxYxIywJ6gFnheqSw5QPkX\
    D3wwge8GCSqGSIb3DQEHAaCB4QSB3jCB2zCB2AYLKoZIhvcNAQwKAQGggYowgYcCAQAwEwYHKoZIzj0CAQYIKoZIzj0DAQcEbTBr\
    AgEBBCBlOevmQfkU6kEJqrjT/ssC+MpFXLaz401k/ZoDhsiD0aFEA0IABBRuqx5CdPwFHyu91PnHYDZDho9azMQVphiqzIusotpF\
    7ccxhEtrjDoxGbkqD6q+rYwZINferD0pn1NQQ55wTlYxPDAVBgkqhkiG9w0BCRQxCB4GAHcAZQBiMCMGCSqGSIb3DQEJFTEWBBQa\
    czFjEjLAnqAWeF6pLDlA+RcPfDBBMDEwDQYJYIZIAWUDBAIBBQAEIFHV/p2aJjPyxHJ8FSkkC9OUKwB4PKn2lpzmqdlgngJ8BAhe\
    1+OmVgV9nQICCAA=";

const SEALED: &str = "\
    MIID0wIBAzCCA4kGCSqGSIb3DQEHAaCCA3oEggN2MIIDcjCCAhIGCSqGSIb3DQEHBqCCAgMwggH/AgEAMIIB+AYJKoZIhvcNAQcB\
    MFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAg5TAwhhVFJDwICCAAwDAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEELGV\
    GSFKPvuVoOm+bb/0WL2AggGQ4I0Oym8n2WzDu7YOHKJAXdBnCsEg3963aSEfxXwGr7tRi2dW8tkb6E3bqc8VnTth0s8hlTfP4i+G\
    o0K1u/egttB2Vn5p6LeAGxQBFoRUH1x2ZMdBY2zBWlSZ4mCWFCUOEErNvYvGZwpWBhuLCvzVCwG8A5YEbfUJStVJDgnkywVLwCZd\
    +/Hl5ojzLA52Fr9PUvOwqSF5j6TfEYI/eVEv9JcFCnXPzA2Cf6mJrOM/r7+iguzfg4k4oDwVwYidDR1g3R3g1bJNso78A2cG7ZBk\
    XJDBTLndq75Wj4w+tt3nQS8hRk9eyPHUvaLCBzrkH4sETCjvdLS+rH2iiQtj4n1Us7KicbC6mwRTLPqWMyp99LeZjyuC+jWDY/ri\
    /R669BW5TPzLJ/a2xyVjmIMpZBiPTO08qbz0cP/vMNyMFIcQAJM90lwECIrCy5OvMXuYiG5NFTYKOLseyIlGDnkoCRUzkdJ9jtlZ\
    HMQmTVj9kYcgXtyWPE8lpkJen099GskETG4pkVJWVdWbY8B+ijoo4UMTkzCCAVgGCSqGSIb3DQEHAaCCAUkEggFFMIIBQTCCAT0G\
    CyqGSIb3DQEMCgECoIHvMIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAi9ou8qkRby+wICCAAwDAYIKoZIhvcNAgkF\
    ADAdBglghkgBZQMEASoEEBnqAjzR/8kydJynpbkBTjgEgZCL6cS3rl8iZR0KvNSt9fapm71NkyNh3K+2NawzwJRX7/mayiLT7BoI\
    5grdrwRNLPKmrbkN6c+TGgTlSepBUBSIgs4Zz1WR+Rx+f9r6nGw/Ur97h/c5DvkELbAa8yQfuc6KydFLI4Ec0Y4xDkAugj/TsDMV\
    BPU3mJ4/sqrL/oTg1o2WMY7hn0AeNEHb6EW5kfQxPDAVBgkqhkiG9w0BCRQxCB4GAHcAZQBiMCMGCSqGSIb3DQEJFTEWBBQaczFj\
    EjLAnqAWeF6pLDlA+RcPfDBBMDEwDQYJYIZIAWUDBAIBBQAEIPPJKkcBYaLKWEF5A6s70MJzqrAdgzPMtncz+UN7xeSQBAj6JBz6\
    7pUNlAICCAA=";

const LEGACY: &str = "\
    MIIDTQIBAzCCAxMGCSqGSIb3DQEHAaCCAwQEggMAMIIC/DCCAdcGCSqGSIb3DQEHBqCCAcgwggHEAgEAMIIBvQYJKoZIhvcNAQcB\
    MBwGCiqGSIb3DQEMAQYwDgQIGmHrV58VrrQCAggAgIIBkBtGGGGSqxcxbWA6kbtz++tCTuKmCehwcUrOWhcztTTGJAr4IWa0vMks\
    rowKpc02K2qL4l7Upz6WUb2nrQzyzvXmLB6fThurV+36/FnkGi3Oesb7xcqYJ0kmUJNSZCOTqD4gHhr/kRRopxw5M+pLDq7qEybP\
    u2FWEJ9OiM/rYXqG8LGxDM9PPc9JLQPcdwTpedcuZ7HbamK4IeBPhZU2mH7rB6O/GAPsqRC1rcXPqfyBbIYEc+ea7cqYE5gts+cA\
    T/axxEeurjg6BAKx5TZ69kXQnQc/4LKfNoC4P7vxR2PyA+xKS1svcUijL00ywJMa2dEUm4MzcdzS2AoE5TvvkAAQtRi33nlMlYRM\
    LH9BPDP9gYdli1B+QaRCmqAs03xMq1kwHUpedXT4z1eZzrTCLZ5cu4NPe3u5fq8Wt/qs973P74mtGcvMGCf97sqzvbgpydQ8ZzD2\
    H+Jlp8RW1sB3uTi9NzURWmIUhEAmSJCa96kOBEEd768NLZXbf/CjGtSOoZ9Kr0p0C3HjaQNXZ9o2xvwwggEdBgkqhkiG9w0BBwGg\
    ggEOBIIBCjCCAQYwggECBgsqhkiG9w0BDAoBAqCBtDCBsTAcBgoqhkiG9w0BDAEDMA4ECIi9NgwQAD/5AgIIAASBkJKT+9LMi1dg\
    FOGZVW+Eesp/eHuOSUsj5J7cAvMNUKHxYIPtQr5iOqceL6RNfWSz1vRb8Lbty7ICnUPAKfjnjNIQ4GlpiwGiV+TVWN9xssxNHEpR\
    gQaQHOjzHaMLSMrp1QpmGdq9EkAPZfVXssS5wAAY6MIYvChGgAMAJwiHJg/JRdrjzoE1nouNdv0RlnOShTE8MBUGCSqGSIb3DQEJ\
    FDEIHgYAdwBlAGIwIwYJKoZIhvcNAQkVMRYEFBpzMWMSMsCeoBZ4XqksOUD5Fw98MDEwITAJBgUrDgMCGgUABBSR7LbwNuVxhTMY\
    tKzfT7L227FBPgQIlWsmNsU3ub8CAggA";

fn password() -> Password {
    Password("a".to_string().into())
}

/// Its content, and the file with other content under a MAC that fits.
fn taken_apart(file: &str) -> (Vec<u8>, impl Fn(Vec<u8>) -> Vec<u8>) {
    let pfx = Pfx::from_der(&BASE64.decode(file).unwrap()).unwrap();
    let content = data(&pfx.auth_safe).unwrap().as_bytes().to_vec();
    let mac = pfx.mac.unwrap();
    let put_together = move |content: Vec<u8>| {
        let mac = mac::renewed(&mac, &content, &password()).unwrap();
        let auth_safe = in_the_open(content).unwrap();
        Pfx { version: 3, auth_safe, mac: Some(mac) }.to_der().unwrap()
    };
    (content, put_together)
}

#[test]
fn what_was_taken_apart_and_put_together_opens() {
    for file in [OPEN, SEALED, LEGACY] {
        let (content, put_together) = taken_apart(file);
        let opened = Pkcs12::open(&put_together(content), &password(), &mut Effort::default()).unwrap();
        let kept = opened.bundle().chains().unwrap().remove(0);
        assert_eq!(kept.chain.leaf.subject_cn.as_deref(), Some("web"));
        assert_eq!(kept.key_digest(), Some(kept.chain.leaf.public_key));
        assert_eq!(opened.aliases(), ["web"]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_its_writer_put_into_it_it_opens_or_is_refused(
        file in prop::sample::select(&[OPEN, SEALED, LEGACY][..]),
        cut in any::<prop::sample::Index>(),
        shorten in prop::bool::weighted(0.2),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let (mut content, put_together) = taken_apart(file);
        for (at, byte) in &changes {
            let at = at.index(content.len());
            content[at] = *byte;
        }
        if shorten {
            content.truncate(cut.index(content.len()));
        }
        if let Ok(opened) = Pkcs12::open(&put_together(content), &password(), &mut Effort::default()) {
            let _ = opened.bundle().chains();
        }
    }
}
