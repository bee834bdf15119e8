//! `floe network connect`, `disconnect`, `reload` and `update`: networks of containers that are there.

use std::net::IpAddr;
use std::process::ExitCode;

use engine::Engine;
use engine::crates::network::Mac;
use engine::networks::Joining;

use crate::cmd::ps;
use crate::failure::Failure;
use crate::names;

/// Options of `floe network connect`.
#[derive(Debug, clap::Args)]
pub(crate) struct ConnectArgs {
    /// A further name on the network
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    alias: Vec<String>,
    /// IPv4 address
    #[arg(long, value_name = "IP")]
    ip: Option<IpAddr>,
    /// IPv6 address
    #[arg(long, value_name = "IP")]
    ip6: Option<IpAddr>,
    /// Hardware address
    #[arg(long, value_name = "MAC")]
    mac_address: Option<Mac>,
    /// Name, or the beginning of an id
    network: String,
    /// Name or id
    container: String,
}

/// Options of `floe network disconnect`.
#[derive(Debug, clap::Args)]
pub(crate) struct DisconnectArgs {
    /// Accepted for podman's sake: nothing keeps a container on a network
    #[arg(long, short)]
    force: bool,
    /// Name, or the beginning of an id
    network: String,
    /// Name or id
    container: String,
}

/// Options of `floe network reload`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReloadArgs {
    /// Of all containers that people made
    #[arg(long, short)]
    all: bool,
    /// Of the newest one
    #[arg(long, short)]
    latest: bool,
    /// Names or ids
    #[arg(value_name = "CONTAINER", required_unless_present_any = ["all", "latest"])]
    containers: Vec<String>,
}

/// Options of `floe network update`.
#[derive(Debug, clap::Args)]
pub(crate) struct UpdateArgs {
    /// A server to be asked for other names
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    dns_add: Vec<String>,
    /// One that is asked no longer
    #[arg(long, value_name = "IP", value_delimiter = ',')]
    dns_drop: Vec<String>,
    /// Name
    network: String,
}

pub(super) fn connect(engine: &Engine, args: &ConnectArgs) -> Result<ExitCode, Failure> {
    let container = names::find(engine, &args.container)?;
    let joining = Joining {
        network: super::find(engine, &args.network)?.spec.name,
        ips: [args.ip, args.ip6].into_iter().flatten().collect(),
        mac: args.mac_address,
        aliases: args.alias.clone(),
        ..Joining::default()
    };
    engine.connect_network(&container.id, joining)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn disconnect(engine: &Engine, args: &DisconnectArgs) -> Result<ExitCode, Failure> {
    let container = names::find(engine, &args.container)?;
    engine.disconnect_network(&container.id, &args.network)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn reload(engine: &Engine, args: &ReloadArgs) -> Result<ExitCode, Failure> {
    let mut all = args.containers.clone();
    all.extend(ps::selected(engine, &[], args.latest)?);
    if args.all {
        all.extend(names::of_people(engine)?);
    }
    crate::cmd::for_each(&all, |name| {
        let container = names::find(engine, name)?;
        engine.reload_networks(&container.id)?;
        println!("{}", container.id);
        Ok(())
    })
}

pub(super) fn update(engine: &Engine, args: &UpdateArgs) -> Result<ExitCode, Failure> {
    let read = |texts: &[String], flag: &str| -> Result<Vec<IpAddr>, Failure> {
        let ip = |text: &String| {
            text.parse().map_err(|_| {
                Failure::new(format!(
                    "unable to parse ip {text} specified in {flag}: invalid argument"
                ))
            })
        };
        texts.iter().map(ip).collect()
    };
    let add = read(&args.dns_add, "AddDNSServer")?;
    let drop = read(&args.dns_drop, "RemoveDNSServer")?;
    let network = super::find(engine, &args.network)?;
    engine.change_dns_servers(&network.spec.name, &add, &drop)?;
    println!("{}", args.network);
    Ok(ExitCode::SUCCESS)
}
