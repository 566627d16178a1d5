//! A loopback server that is not Vault: it answers each request by its text, and tells what it heard.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Answers each request, one a connection; returns its address and where the requests can be read, in lower case.
pub async fn that_answers(
    answer: impl Fn(&str) -> String + Clone + Send + 'static,
) -> (String, UnboundedReceiver<String>) {
    let (heard, requests) = unbounded_channel();
    let address = that_serves(move |mut client| {
        let (answer, heard) = (answer.clone(), heard.clone());
        async move {
            let request = heard_from(&mut client).await;
            let _ = client.write_all(answer(&request).as_bytes()).await;
            let _ = heard.send(request);
        }
    });
    (address.await, requests)
}

/// Leaves each connection to `serve`.
pub async fn that_serves<F: Future<Output = ()> + Send + 'static>(
    serve: impl Fn(TcpStream) -> F + Send + 'static,
) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(serve(client));
        }
    });
    address
}

/// One request, which fits into one packet here; empty when the client is gone.
pub async fn heard_from(client: &mut TcpStream) -> String {
    let mut asked = [0; 8192];
    let n = client.read(&mut asked).await.unwrap_or(0);
    String::from_utf8_lossy(&asked[..n]).to_lowercase()
}

pub fn answer(status: &str, kind: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

/// `header` follows the status line: empty, or lines that each begin with a line end.
pub fn json_answer(header: &str, body: &str) -> String {
    answer(&format!("200 OK{header}"), "application/json", body)
}

/// What a KV version 2 mount `secret/` answers whatever is asked of it.
pub fn as_kv(request: &str) -> String {
    match request.split(' ').next() {
        Some("post" | "put") => json_answer("", r#"{"data":{"version":2}}"#),
        _ if request.contains("/mounts/") => {
            json_answer("", r#"{"data":{"path":"secret/","type":"kv","options":{"version":"2"}}}"#)
        }
        _ => json_answer("", r#"{"data":{"data":{},"metadata":{"version":2}}}"#),
    }
}
