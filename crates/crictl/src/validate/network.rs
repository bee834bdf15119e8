//! Networks of pods.

use std::net::IpAddr;

use tokio::net::{TcpListener, TcpStream};

use super::check::{Group, Verdict, checks, failed, holds, same};
use super::streams::{page, web};
use super::trial::{LASTS, Trial, Up, pod_security};

pub(super) const GROUP: Group = Group {
    name: "network",
    checks: checks! {
        701 "address" Image address, "a pod has an address, and its containers have it", "PodSandboxStatus.network.ip";
        702 "from-node" Image from_node, "the node reaches a pod, as kubelet's probes do", "PodSandboxStatus.network.ip";
        703 "between-pods" Image between_pods, "a pod reaches another without translation of addresses", "RunPodSandbox: the network of Kubernetes";
        704 "loopback" Image loopback, "the containers of a pod reach each other on loopback", "NamespaceOption.network = POD";
        705 "dns" Image dns, "servers, searches and options of DNS are in resolv.conf", "PodSandboxConfig.dns_config";
        706 "host-port" Image host_port, "a port of the node leads to the pod", "PodSandboxConfig.port_mappings";
        707 "no-address" Runtime no_address, "a pod with the node's network has no address of its own", "PodSandboxStatus.network.ip: empty with the node's network";
        708 "given-back" Runtime given_back, "the network of a pod that was stopped is given back, and told no more", "StopPodSandbox";
    },
};

/// The first address of a pod.
async fn ip(trial: &Trial<'_>, pod: &str) -> Verdict<IpAddr> {
    let network = trial.pod_status(pod).await?.network.unwrap_or_default();
    let read = network.ip.parse();
    read.or_else(|_| failed("network.ip is an address", format!("{:?}", network.ip)))
}

async fn address(trial: &Trial<'_>) -> Verdict {
    let up = trial.up(|_, _| {}).await?;
    let ip = ip(trial, &up.pod).await?;
    let found = trial.output(&up.container, "ip addr").await?;
    let is_there = found.contains(&format!(" {ip}/"));
    holds(
        &format!("`ip addr` in the container has {ip}"),
        is_there,
        found,
    )
}

/// Whether the page of the script comes from an address.
async fn is_served(trial: &Trial<'_>, address: (IpAddr, u16)) -> Verdict {
    let what = format!("{}:{} answers with `hello`", address.0, address.1);
    trial
        .until(&what, async || {
            let asked = async { page(TcpStream::connect(address).await?).await };
            let asked = tokio::time::timeout(trial.fixture.limit, asked);
            Ok(match asked.await {
                Ok(Ok(page)) if page.ends_with("hello\n") => Ok(()),
                Ok(Ok(page)) => Err(format!("{page:?}")),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err("no answer".to_owned()),
            })
        })
        .await
}

async fn from_node(trial: &Trial<'_>) -> Verdict {
    let up = trial.up_with(&web(8080), |_, _| {}).await?;
    is_served(trial, (ip(trial, &up.pod).await?, 8080)).await
}

/// Whether a container gets the page of the script from here.
async fn is_fetched(trial: &Trial<'_>, container: &str, host: &str) -> Verdict {
    trial
        .until(
            &format!("{host} answers the container with `hello`"),
            async || {
                let get = "printf 'GET / HTTP/1.0\\r\\n\\r\\n'";
                let script = format!("{get} | nc -w 3 {host} 8080");
                Ok(match trial.outcome(container, &script).await? {
                    (_, out) if out.ends_with("hello") => Ok(()),
                    (code, out) => Err(format!("exit code {code}: {out}")),
                })
            },
        )
        .await
}

async fn between_pods(trial: &Trial<'_>) -> Verdict {
    let server = trial.up_with(&web(8080), |_, _| {}).await?;
    let ip = ip(trial, &server.pod).await?;
    let client = second_pod(trial).await?;
    is_fetched(trial, &client.container, &ip.to_string()).await
}

async fn second_pod(trial: &Trial<'_>) -> Verdict<Up> {
    trial
        .up(|pod, _| {
            if let Some(metadata) = &mut pod.metadata {
                metadata.name += "-client";
            }
        })
        .await
}

async fn loopback(trial: &Trial<'_>) -> Verdict {
    let up = trial.up_with(&web(8080), |_, _| {}).await?;
    let config = trial.container_config("second", LASTS);
    let second = trial.launch(&up.pod, &up.pod_config, config).await?;
    is_fetched(trial, &second, "127.0.0.1").await
}

async fn dns(trial: &Trial<'_>) -> Verdict {
    let up = trial
        .up(|pod, _| {
            pod.dns_config = Some(cri::DnsConfig {
                servers: vec!["10.10.10.10".to_owned()],
                searches: vec!["a.floe.test".to_owned(), "floe.test".to_owned()],
                options: vec!["ndots:8".to_owned()],
            });
        })
        .await?;
    let found = trial.output(&up.container, "cat /etc/resolv.conf").await?;
    for line in [
        "nameserver 10.10.10.10",
        "search a.floe.test floe.test",
        "options ndots:8",
    ] {
        let is_there = found.lines().any(|one| one.trim() == line);
        holds(&format!("/etc/resolv.conf has `{line}`"), is_there, &found)?;
    }
    Ok(())
}

/// A port that nobody listens on for now.
async fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port())
}

async fn host_port(trial: &Trial<'_>) -> Verdict {
    let port = match free_port().await {
        Ok(port) => port,
        Err(error) => return failed("a free port on this machine", error.to_string()),
    };
    trial
        .up_with(&web(8080), |pod, _| {
            pod.port_mappings = vec![cri::PortMapping {
                protocol: cri::Protocol::Tcp.into(),
                container_port: 8080,
                host_port: port.into(),
                host_ip: String::new(),
            }];
        })
        .await?;
    is_served(trial, (IpAddr::from([127, 0, 0, 1]), port)).await
}

async fn no_address(trial: &Trial<'_>) -> Verdict {
    let mut config = trial.pod_config()?;
    pod_security(&mut config).namespace_options = Some(cri::NamespaceOption {
        network: cri::NamespaceMode::Node.into(),
        ..Default::default()
    });
    let pod = trial.run_pod(&config).await?;
    let network = trial.pod_status(&pod).await?.network.unwrap_or_default();
    same("network.ip", "", &network.ip)
}

async fn given_back(trial: &Trial<'_>) -> Verdict {
    let (pod, _) = trial.pod().await?;
    ip(trial, &pod).await?;
    trial.stop_pod(&pod).await?;
    let network = trial.pod_status(&pod).await?.network.unwrap_or_default();
    same("network.ip of a stopped pod", "", &network.ip)
}
