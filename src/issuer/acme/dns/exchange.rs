//! One question to one name server, over UDP and, where the answer does not fit, over TCP (RFC 1035, section 4.2).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::ProtoError;
use hickory_proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

/// For one try. What a resolver of libc grants, more or less.
const PATIENCE: Duration = Duration::from_secs(3);

/// A datagram may be lost.
const TRIES: u32 = 2;

/// Without EDNS nothing longer comes over UDP (RFC 1035, section 4.2.1), and no server minds that it is missing.
const LONGEST_DATAGRAM: usize = 512;

/// Whose word is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Of a resolver, which may have asked others.
    Resolver,
    /// Of a server that has the zone itself.
    Authority,
}

/// Why a question has no answer. That there is no such record is an answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    #[error(
        "it did not answer within {} s: see whether it runs, and whether a firewall drops DNS",
        (PATIENCE * TRIES).as_secs()
    )]
    Silent,
    #[error("it could not be reached: see whether it runs, and whether its port is open to this host")]
    Unreachable(#[source] io::Error),
    #[error("it answered {}: see its log", code_word(*.0))]
    Code(ResponseCode),
    #[error("it does not answer for that name itself: see whether it still is a server of the zone")]
    NotAuthoritative,
    #[error("it neither has that name nor asks others: name a resolver, not a server of other zones")]
    NotResolving,
    #[error("its answer was not understood: see whether it speaks DNS")]
    NotUnderstood(#[source] ProtoError),
}

impl Unanswered {
    /// Whether this host has no way there at all, as to an IPv6 address on a host that has IPv4 only.
    pub(super) fn is_out_of_reach(&self) -> bool {
        match self {
            Self::Unreachable(error) => {
                matches!(error.kind(), io::ErrorKind::NetworkUnreachable | io::ErrorKind::AddrNotAvailable)
                    || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
            }
            Self::Silent | Self::Code(_) | Self::NotAuthoritative | Self::NotResolving | Self::NotUnderstood(_) => {
                false
            }
        }
    }
}

/// As RFC 6895 spells it.
pub(super) fn code_word(code: ResponseCode) -> String {
    format!("{code:?}").to_uppercase()
}

/// The answer: with records, or that there are none.
pub(super) async fn ask(
    server: SocketAddr,
    name: &Name,
    kind: RecordType,
    asked: Asked,
) -> Result<Message, Unanswered> {
    let answer = exchange(server, name, kind, asked).await?;
    match answer.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain => {}
        other => return Err(Unanswered::Code(other)),
    }
    // Else it only points to somebody who may know, and that is not the answer that there is no such record.
    match asked {
        Asked::Authority if !answer.authoritative => Err(Unanswered::NotAuthoritative),
        Asked::Resolver if !answer.authoritative && !answer.recursion_available => Err(Unanswered::NotResolving),
        Asked::Authority | Asked::Resolver => Ok(answer),
    }
}

async fn exchange(server: SocketAddr, name: &Name, kind: RecordType, asked: Asked) -> Result<Message, Unanswered> {
    for _ in 0..TRIES {
        // Each try has a number and a port of its own, both by chance, so that nobody else can answer it.
        let mut message = Message::query();
        message.metadata.recursion_desired = asked == Asked::Resolver;
        message.add_query(Query::query(name.clone(), kind));
        let bytes = message.to_vec().map_err(Unanswered::NotUnderstood)?;
        let Ok(answer) = timeout(PATIENCE, by_udp(server, &message, &bytes)).await else { continue };
        let answer = answer.map_err(Unanswered::Unreachable)?;
        if !answer.truncation {
            return Ok(answer);
        }
        let Ok(answer) = timeout(PATIENCE, by_tcp(server, &bytes)).await else { continue };
        let answer = answer.map_err(Unanswered::Unreachable)?;
        let answer = Message::from_vec(&answer).map_err(|error| Unanswered::NotUnderstood(error.into()))?;
        if answers(&answer, &message) {
            return Ok(answer);
        }
    }
    Err(Unanswered::Silent)
}

/// Whatever else arrives is passed over, as if it had not.
async fn by_udp(server: SocketAddr, message: &Message, bytes: &[u8]) -> io::Result<Message> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut datagram = [0; LONGEST_DATAGRAM];
    loop {
        let length = socket.recv(&mut datagram).await?;
        match Message::from_vec(&datagram[..length]) {
            Ok(answer) if answers(&answer, message) => return Ok(answer),
            Ok(_) | Err(_) => {}
        }
    }
}

/// One message there and one back, in a connection of their own. Has no deadline.
pub(super) async fn by_tcp(server: SocketAddr, message: &[u8]) -> io::Result<Vec<u8>> {
    let length = u16::try_from(message.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(&[&length.to_be_bytes(), message].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

/// Whether one is the answer to the other. Some servers leave the question out when they refuse it.
pub(super) fn answers(answer: &Message, asked: &Message) -> bool {
    let leaves_it_out = answer.queries.is_empty() && answer.response_code != ResponseCode::NoError;
    answer.id == asked.id
        && answer.message_type == MessageType::Response
        && answer.op_code == asked.op_code
        && (answer.queries == asked.queries || leaves_it_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn question() -> Message {
        let mut message = Message::query();
        message.add_query(Query::query(name("_acme-challenge.example.org."), RecordType::TXT));
        message
    }

    #[test]
    fn only_the_answer_to_the_question_is_taken() {
        let asked = question();
        let answer = asked.clone().into_response();
        assert!(answers(&answer, &asked));
        assert!(!answers(&asked, &asked), "a question is no answer");

        let mut other_number = answer.clone();
        other_number.metadata.id = asked.id.wrapping_add(1);
        assert!(!answers(&other_number, &asked));

        let mut other_name = answer.clone();
        other_name.queries = vec![Query::query(name("example.org."), RecordType::TXT)];
        assert!(!answers(&other_name, &asked));

        let mut none = answer.clone();
        none.queries.clear();
        assert!(!answers(&none, &asked));
        none.metadata.response_code = ResponseCode::Refused;
        assert!(answers(&none, &asked));
    }

    #[test]
    fn a_network_that_this_host_is_not_on_is_out_of_reach_and_a_closed_port_is_not() {
        let unreachable = |error: io::Error| Unanswered::Unreachable(error).is_out_of_reach();
        assert!(unreachable(io::Error::from_raw_os_error(libc::ENETUNREACH)));
        assert!(unreachable(io::Error::from_raw_os_error(libc::EADDRNOTAVAIL)));
        assert!(unreachable(io::Error::from_raw_os_error(libc::EAFNOSUPPORT)));
        assert!(!unreachable(io::Error::from_raw_os_error(libc::ECONNREFUSED)));
        assert!(!Unanswered::Silent.is_out_of_reach());
    }

    #[test]
    fn codes_are_spelt_as_every_other_tool_spells_them() {
        assert_eq!(code_word(ResponseCode::ServFail), "SERVFAIL");
        assert_eq!(code_word(ResponseCode::NXDomain), "NXDOMAIN");
        assert_eq!(code_word(ResponseCode::Unknown(4_000)), "UNKNOWN(4000)");
    }
}
