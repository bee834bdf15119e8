//! Local ports that lead to those of a pod.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use clap::Args;
use streaming::client::Ports;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::exec::Way;
use super::{World, id};
use crate::failure::{Context, Failure, Outcome};
use crate::say;

/// Options of `port-forward`.
#[derive(Debug, Args)]
pub(crate) struct PortForwardArgs {
    #[command(flatten)]
    way: Way,
    /// The pod, and the ports: 8080:80 leads from here to there, 80 from the same, :80 from any
    #[arg(value_name = "POD-ID [LOCAL_PORT:]REMOTE_PORT")]
    words: Vec<String>,
}

/// A port here, 0 for any, and one in the pod.
fn pair(word: &str) -> Outcome<(u16, u16)> {
    let (local, remote) = word.split_once(':').unwrap_or((word, word));
    let number = |which: &str, text: &str| {
        text.parse::<u16>()
            .map_err(|error| Failure::new(format!("error parsing {which} port '{text}': {error}")))
    };
    let local = match local {
        "" => 0,
        local => number("local", local)?,
    };
    match number("remote", remote)? {
        0 => Err(Failure::new("remote port must be > 0")),
        remote => Ok((local, remote)),
    }
}

/// Listens on the loopback of both families, of which one must work; both on the same port.
async fn listen(local: u16, remote: u16) -> Outcome<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    let (mut port, mut first) = (local, None);
    for address in [
        IpAddr::from(Ipv4Addr::LOCALHOST),
        IpAddr::from(Ipv6Addr::LOCALHOST),
    ] {
        match TcpListener::bind(SocketAddr::new(address, port)).await {
            Ok(listener) => {
                let bound = listener.local_addr()?;
                port = bound.port();
                say::print(&format!("Forwarding from {bound} -> {remote}\n"));
                listeners.push(listener);
            }
            Err(error) => {
                first.get_or_insert(error);
            }
        }
    }
    match (listeners.is_empty(), first) {
        (true, Some(error)) => Err(Failure::new(format!(
            "unable to listen on port {local}: {error}"
        ))),
        _ => Ok(listeners),
    }
}

pub(crate) async fn port_forward(world: &World, args: &PortForwardArgs) -> Outcome {
    let Some((pod, ports)) = args
        .words
        .split_first()
        .filter(|(_, ports)| !ports.is_empty())
    else {
        return Err(Failure::Help);
    };
    let runtime = world.runtime().await?;
    let forwarded = async {
        let pairs = ports.iter().map(|word| pair(word));
        let pairs = pairs.collect::<Outcome<Vec<_>>>()?;
        let request = cri::PortForwardRequest {
            pod_sandbox_id: id(pod)?,
            port: Vec::new(),
        };
        let answer = runtime
            .call(async |mut client| client.port_forward(request).await)
            .await?;
        let target = args.way.to(answer.url)?;
        let connection = Ports::connect(&target).await.map_err(Failure::new)?;
        let mut listeners = Vec::new();
        for (local, remote) in pairs {
            let all = listen(local, remote).await?;
            listeners.extend(all.into_iter().map(|listener| (listener, remote)));
        }
        serve(connection, listeners).await
    };
    forwarded.await.context("port forward")
}

async fn serve(connection: Ports, listeners: Vec<(TcpListener, u16)>) -> Outcome {
    let mut serving = JoinSet::new();
    for (listener, remote) in listeners {
        let connection = connection.clone();
        serving.spawn(async move {
            let mut running = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let (stream, _) = accepted?;
                        let port = listener.local_addr()?.port();
                        say::print(&format!("Handling connection for {port}\n"));
                        let connection = connection.clone();
                        running.spawn(async move {
                            if let Err(error) = connection.join(remote, stream).await {
                                say::error(&format!(
                                    "an error occurred forwarding {port} -> {remote}: {error}"
                                ));
                            }
                        });
                    }
                    Some(_) = running.join_next() => {}
                }
            }
        });
    }
    tokio::select! {
        () = connection.lost() => Err(Failure::new("lost connection to pod")),
        Some(ended) = serving.join_next() => match ended {
            Ok(ended) => ended,
            Err(error) => Err(Failure::new(error)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_pairs() {
        assert_eq!(pair("8080:80").unwrap(), (8080, 80));
        assert_eq!(pair("80").unwrap(), (80, 80));
        assert_eq!(pair(":80").unwrap(), (0, 80));
        for wrong in ["", "x", "80:", "1:2:3", "99999", "80:0", "0"] {
            assert!(pair(wrong).is_err(), "{wrong}");
        }
    }
}
