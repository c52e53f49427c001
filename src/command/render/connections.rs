//! `-L -c`: a row for each connection, so that a table of any size can be printed row by row; and the way back, so
//! that a client can put names where the director wrote numbers.

use std::fmt;

use super::{labels, put};
use crate::base::Endpoint;
use crate::command::ListOptions;
use crate::command::names::Names;
use crate::command::request::ConnectionInfo;
use crate::service::Protocol;

/// The two lines above the rows.
pub const fn connections_header(options: &ListOptions) -> &'static str {
    if options.persistent_conn {
        "IPVS connection entries\n\
         pro expire state       source             virtual            destination        pe name          pe_data\n"
    } else {
        "IPVS connection entries\n\
         pro expire state       source             virtual            destination\n"
    }
}

/// Appends the row of a connection.
pub fn write_connection(out: &mut String, row: &ConnectionInfo, options: &ListOptions, names: &dyn Names) {
    let labels = labels(options, names);
    let protocol = row.protocol;
    let [client, service, server] =
        [row.client, row.virtual_service, row.destination].map(|endpoint| labels.endpoint(endpoint, protocol));
    match protocol {
        Some(protocol) => put(out, format_args!("{protocol:<3}")),
        None => out.push_str("IP "),
    }
    let expires = format!("{:02}:{:02}", row.expires_s / 60, row.expires_s % 60);
    put(out, format_args!(" {expires:<6} {:<11} {client:<18} {service:<18} ", row.state));
    match row.engine.as_ref().filter(|_| options.persistent_conn) {
        Some((engine, data)) => put(out, format_args!("{server:<16} {engine:<18} {data}\n")),
        None => put(out, format_args!("{server}\n")),
    }
}

/// A text that is no row of connections.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectionTextError(String);

impl fmt::Display for ConnectionTextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no row of connections: `{}'", self.0)
    }
}

impl std::error::Error for ConnectionTextError {}

/// Reads a row that was written in numbers, without its line feed.
///
/// # Errors
/// When it is no such row.
pub fn parse_connection(line: &str) -> Result<ConnectionInfo, ConnectionTextError> {
    read_row(line).ok_or_else(|| ConnectionTextError(line.to_owned()))
}

fn read_row(line: &str) -> Option<ConnectionInfo> {
    let mut words = line.split_ascii_whitespace();
    let protocol = match words.next()? {
        "TCP" => Some(Protocol::Tcp),
        "UDP" => Some(Protocol::Udp),
        "SCTP" => Some(Protocol::Sctp),
        "IP" => None,
        _ => return None,
    };
    let (minutes, seconds) = words.next()?.split_once(':')?;
    let (minutes, seconds): (u32, u32) = (minutes.parse().ok()?, seconds.parse().ok()?);
    let expires_s = minutes.checked_mul(60)?.checked_add(seconds)?;
    let state = words.next()?.to_owned();
    let client = read_endpoint(words.next()?)?;
    let virtual_service = read_endpoint(words.next()?)?;
    let destination = read_endpoint(words.next()?)?;
    let engine = words.next().map(|name| (name.to_owned(), words.collect::<Vec<_>>().join(" ")));
    Some(ConnectionInfo {
        protocol,
        expires_s,
        state,
        client,
        virtual_service,
        destination,
        engine,
        from_sync: false,
    })
}

fn read_endpoint(text: &str) -> Option<Endpoint> {
    let (host, port) = text.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some(Endpoint::new(host.parse().ok()?, port.parse().ok()?))
}
