//! Acting stops at once when it is told to, and everything shows it.

use crate::home::{ADOPT, Home, declared, rows};
use crate::leaves::Leaf;

#[tokio::test]
async fn with_act_off_nothing_is_written_and_everybody_is_told() {
    let config = format!("act = false\n{ADOPT}{}", declared("web"));
    let home = Home::new(&config).await;
    home.put("tls/old", Leaf::due("old.example.org")).await;
    let daemon = home.run().await;
    assert_eq!(home.plan().await, rows(&[("tls/old", "hold act_is_off"), ("web", "hold act_is_off")]));
    let banner = "act = false: nothing will be renewed\n";
    for command in [vec!["plan"], vec!["check"], vec!["explain", "web"]] {
        let ran = home.certd(&command).await;
        assert!(ran.out.starts_with(banner), "{command:?}: {ran:?}");
    }
    let refused = home.certd(&["renew", "web"]).await;
    assert_eq!(
        (refused.code, refused.err.as_str()),
        (3, "certd: act = false in the configuration: certd renews nothing\n")
    );
    assert!(daemon.page().await.contains("\ncertd_acting 0\n"));
    assert_eq!((home.version("tls/old").await, home.version("tls/web").await, home.signed().await), (1, 0, 0));
}

#[tokio::test]
async fn a_pause_stops_all_acting_until_it_is_resumed() {
    let home = Home::new(&format!("{ADOPT}{}", declared("web"))).await;
    home.put("tls/old", Leaf::due("old.example.org")).await;
    assert_eq!(home.certd(&["pause", "--until", "2h"]).await.code, 0);
    let daemon = home.run().await;
    assert_eq!(home.plan().await, rows(&[("tls/old", "hold paused"), ("web", "hold paused")]));
    for command in [vec!["plan"], vec!["check"], vec!["explain", "web"]] {
        let ran = home.certd(&command).await;
        assert!(ran.out.starts_with("acting is paused until 20"), "{command:?}: {ran:?}");
    }
    let held = home.certd(&["renew", "web"]).await;
    assert!(held.out.starts_with("web: hold: paused until 20"), "{held:?}");
    let page = daemon.page().await;
    assert!(page.contains("\ncertd_acting 0\n"), "{page}");
    assert!(page.contains("\ncertd_acting_paused_until_timestamp_seconds "), "{page}");
    assert_eq!((home.version("tls/old").await, home.version("tls/web").await, home.signed().await), (1, 0, 0));

    daemon.until("turn completed");
    assert_eq!(home.certd(&["resume"]).await.code, 0);
    daemon.until("turn completed");
    assert_eq!((home.version("tls/old").await, home.version("tls/web").await, home.signed().await), (2, 1, 2));
    let page = daemon.page().await;
    assert!(page.contains("\ncertd_acting 1\n"), "{page}");
    assert!(!page.contains("\ncertd_acting_paused_until_timestamp_seconds "), "{page}");
}

#[tokio::test]
async fn a_pause_of_one_certificate_leaves_the_others_alone_and_survives_a_restart() {
    let home = Home::new(&format!("{}{}", declared("web"), declared("api"))).await;
    let daemon = home.run().await;
    assert_eq!(home.certd(&["pause", "web", "--until", "2099-01-01T00:00:00Z"]).await.code, 0);
    assert!(daemon.stop().success());
    let daemon = home.run().await;
    let renewed = home.certd(&["renew", "web", "api"]).await;
    let lines: Vec<&str> = renewed.out.lines().collect();
    assert!(lines[0].starts_with("api: renewed by internal"), "{lines:?}");
    assert_eq!(lines[1], "web: hold: paused until 2099-01-01T00:00:00Z");
    let shown =
        [("explain", "paused      until 20"), ("plan", "web is paused until 20"), ("check", "is paused until 20")];
    for (command, words) in shown {
        let arguments = if command == "explain" { vec!["explain", "web"] } else { vec![command] };
        let ran = home.certd(&arguments).await;
        assert!(ran.out.contains(words), "{ran:?}");
    }
    let paused = daemon.metric("certd_certificate_paused_until_timestamp_seconds", "cert").await;
    assert_eq!(paused, [("web".into(), 4_070_908_800.0)]);
    assert_eq!((home.version("tls/web").await, home.version("tls/api").await), (1, 2));
    assert_eq!(home.certd(&["resume", "web"]).await.code, 0);
    assert_eq!(home.certd(&["renew", "web"]).await.code, 0);
    assert_eq!(home.version("tls/web").await, 2);
    assert_eq!(daemon.metric("certd_certificate_paused_until_timestamp_seconds", "cert").await, []);
}
