//! `floe network`: networks that people make, shown and said as podman does. What they are: `engine::networks`; which
//! of them a container is on is said where it is made (`run/networks.rs`).

mod connect;
mod create;
mod filter;

use std::process::ExitCode;

use clap::Subcommand;
use engine::networks::{DEFAULT_NETWORK, Network, networks_of};
use engine::{ContainerFilter, Engine, Pod};
use serde_json::{Map, Value, json};

use self::filter::{filters, fits};
use super::{pod, rm, stop};
use crate::failure::Failure;
use crate::{clock, names, output, template, terminal};

/// podman's exit code for what is not there.
const MISSING: u8 = 1;
/// And for what is in use.
const IN_USE: u8 = 2;

/// What can be done to networks.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Put a container on a further network
    Connect(connect::ConnectArgs),
    /// Make a network
    Create(Box<create::Args>),
    /// Take a container off a network
    Disconnect(connect::DisconnectArgs),
    /// Is there a network of that name? The exit code says it: 0 or 1
    Exists(Name),
    /// Show what networks are, and who is on them
    Inspect(InspectArgs),
    /// List networks
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    /// Remove networks that no container is on
    Prune(PruneArgs),
    /// Make again what leads ports to containers and keeps networks apart, after rules were flushed
    Reload(connect::ReloadArgs),
    /// Remove networks
    #[command(visible_alias = "remove")]
    Rm(RmArgs),
    /// Change which servers are asked for other names
    Update(connect::UpdateArgs),
}

/// Options of `floe network inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    /// json, or a Go template such as '{{.NetworkInterface}}'
    #[arg(
        long,
        short,
        value_name = "FORMAT",
        allow_hyphen_values = true,
        default_value = "json"
    )]
    format: String,
    /// Names, or beginnings of ids
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
}

/// Options of `floe network ls`.
#[derive(Debug, clap::Args)]
pub(crate) struct LsArgs {
    /// KEY=VALUE: name, id, driver, label, label!, until, dangling; those that match all
    #[arg(long, short, value_name = "FILTER")]
    filter: Vec<String>,
    /// json, or a Go template such as '{{.Name}}'
    #[arg(long, value_name = "FORMAT", allow_hyphen_values = true)]
    format: Option<String>,
    /// Print whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Print no line above the columns
    #[arg(long, short)]
    noheading: bool,
    /// Print only names
    #[arg(long, short)]
    quiet: bool,
}

/// Options of `floe network prune`.
#[derive(Debug, clap::Args)]
pub(crate) struct PruneArgs {
    /// Do not ask
    #[arg(long, short)]
    force: bool,
    /// Only those that match: label, label!, until
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
}

/// Options of `floe network rm`.
#[derive(Debug, clap::Args)]
pub(crate) struct RmArgs {
    /// Remove the containers and pods that are on it as well, and be content with missing ones
    #[arg(long, short)]
    force: bool,
    /// Seconds to wait before such a container is killed, -1 for ever
    #[arg(long, short, value_name = "SECONDS", allow_hyphen_values = true)]
    time: Option<i64>,
    /// Names, or beginnings of ids
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
}

/// A name to be looked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Name {
    /// Name, or the beginning of an id
    #[arg(value_name = "NETWORK")]
    name: String,
}

pub(crate) fn run(engine: &Engine, command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Connect(args) => connect::connect(engine, args),
        Command::Disconnect(args) => connect::disconnect(engine, args),
        Command::Reload(args) => connect::reload(engine, args),
        Command::Update(args) => connect::update(engine, args),
        Command::Create(args) => create::run(engine, args),
        Command::Exists(args) => Ok(match engine.find_network(&args.name)? {
            Some(_) => ExitCode::SUCCESS,
            None => ExitCode::from(MISSING),
        }),
        Command::Inspect(args) => inspect(engine, args),
        Command::Ls(args) => list(engine, args),
        Command::Prune(args) => prune(engine, args),
        Command::Rm(args) => remove(engine, args),
    }
}

fn find(engine: &Engine, name: &str) -> Result<Network, Failure> {
    engine.find_network(name)?.ok_or_else(|| {
        let words = format!("unable to find network with name or ID {name}: network not found");
        Failure::missing(words)
    })
}

/// All networks by name, the configuration's included.
fn all(engine: &Engine) -> Result<Vec<Network>, Failure> {
    let mut all = engine.networks()?;
    all.extend(engine.default_network()?);
    all.sort_by(|a, b| a.spec.name.cmp(&b.spec.name));
    Ok(all)
}

fn inspect(engine: &Engine, args: &InspectArgs) -> Result<ExitCode, Failure> {
    let mut found = Vec::new();
    let done = super::for_each(&args.networks, |name| {
        let network = find(engine, name).map_err(|failure| match failure.is_missing() {
            true => Failure::missing(format!("network {name}: {}", failure.message)),
            false => failure,
        })?;
        let containers = containers(engine, &network.spec.name)?;
        found.push(match args.format.as_str() {
            "json" => with(described(&network), "containers", containers),
            _ => with(as_go(&network), "Containers", containers),
        });
        Ok(())
    });
    template::print_each(&args.format, &found)?;
    done
}

fn with(mut value: Value, key: &str, more: Value) -> Value {
    value[key] = more;
    value
}

/// By podman's names in JSON.
fn described(network: &Network) -> Value {
    let spec = &network.spec;
    let subnets = spec.subnets.iter().map(|one| {
        let mut subnet = Map::new();
        subnet.insert("subnet".into(), json!(one.subnet));
        if let Some(gateway) = one.gateway {
            subnet.insert("gateway".into(), json!(gateway));
        }
        if let Some((start, end)) = one.range {
            let range = json!({ "start_ip": start, "end_ip": end });
            subnet.insert("lease_range".into(), range);
        }
        Value::Object(subnet)
    });
    let routes = spec.routes.iter().map(|route| {
        let mut value = json!({ "destination": route.destination, "gateway": route.gateway });
        if let Some(metric) = route.metric {
            value["metric"] = json!(metric);
        }
        value
    });
    let routes: Vec<Value> = routes.collect();
    let mut value = json!({
        "name": spec.name,
        "id": network.id,
        "driver": spec.driver.word(),
        "network_interface": spec.interface,
        "created": created(network),
        "subnets": subnets.collect::<Vec<_>>(),
        "ipv6_enabled": spec.ipv6,
        "internal": spec.internal,
        "dns_enabled": spec.dns,
        "ipam_options": { "driver": "host-local" },
    });
    for (key, more) in [
        ("routes", json!(routes)),
        ("network_dns_servers", json!(spec.dns_servers)),
        ("labels", json!(spec.labels)),
        ("options", json!(spec.options)),
    ] {
        let is_empty = more.as_array().is_some_and(Vec::is_empty)
            || more.as_object().is_some_and(Map::is_empty);
        if !is_empty {
            value[key] = more;
        }
    }
    value
}

/// By the names that templates have.
fn as_go(network: &Network) -> Value {
    let spec = &network.spec;
    let subnets = spec.subnets.iter().map(|one| {
        let range = one
            .range
            .map(|(start, end)| json!({ "StartIP": start, "EndIP": end }));
        let gateway = one.gateway.map(|ip| ip.to_string()).unwrap_or_default();
        json!({ "Subnet": one.subnet, "Gateway": gateway, "LeaseRange": range })
    });
    let routes = spec.routes.iter().map(|route| {
        json!({ "Destination": route.destination, "Gateway": route.gateway, "Metric": route.metric })
    });
    json!({
        "Name": spec.name,
        "ID": network.id,
        "Driver": spec.driver.word(),
        "NetworkInterface": spec.interface,
        "Created": created(network),
        "Subnets": subnets.collect::<Vec<_>>(),
        "Routes": routes.collect::<Vec<_>>(),
        "IPv6Enabled": spec.ipv6,
        "Internal": spec.internal,
        "DNSEnabled": spec.dns,
        "NetworkDNSServers": spec.dns_servers,
        "Labels": spec.labels,
        "Options": spec.options,
        "IPAMOptions": { "driver": "host-local" },
    })
}

fn created(network: &Network) -> Option<String> {
    clock::written(network.created_at / 1_000_000_000)
}

/// The containers that are on a network now, by their ids.
fn containers(engine: &Engine, network: &str) -> Result<Value, Failure> {
    let mut all = Map::new();
    for pod in engine.users_of_network(network)? {
        let attached = engine.attached_networks(&pod.id)?;
        let Some(place) = attached.iter().find(|one| one.network == network) else {
            continue;
        };
        let ifname = engine::networks::interface_of(&pod, network).unwrap_or_default();
        let subnets = place.ips.iter().map(|ip| {
            let same = |gateway: &&std::net::IpAddr| gateway.is_ipv4() == ip.addr().is_ipv4();
            json!({ "ipnet": ip, "gateway": place.gateways.iter().find(same) })
        });
        let interface = json!({
            "subnets": subnets.collect::<Vec<_>>(),
            "mac_address": place.mac.map(|mac| mac.to_string()),
        });
        let in_it = engine.containers(&ContainerFilter {
            pod_id: Some(pod.id.clone()),
            ..ContainerFilter::default()
        })?;
        for container in in_it {
            let interfaces = json!({ ifname.as_str(): interface });
            let value = json!({ "name": container.spec.name, "interfaces": interfaces });
            all.insert(container.id.clone(), value);
        }
    }
    Ok(Value::Object(all))
}

fn list(engine: &Engine, args: &LsArgs) -> Result<ExitCode, Failure> {
    let filters = filters(&args.filter, false)?;
    let mut found = Vec::new();
    for network in all(engine)? {
        if fits(engine, &network, &filters)? {
            found.push(network);
        }
    }
    if args.quiet {
        found.iter().for_each(|one| println!("{}", one.spec.name));
        return Ok(ExitCode::SUCCESS);
    }
    let id = |network: &Network| match args.no_trunc {
        true => network.id.clone(),
        false => output::short(&network.id),
    };
    match args.format.as_deref() {
        Some("json") => {
            let values: Vec<Value> = found.iter().map(described).collect();
            output::print_list(&values);
        }
        Some(format) => {
            let value = |network: &Network| {
                let labels = network.spec.labels.iter();
                let labels: Vec<String> = labels
                    .map(|(key, value)| format!("{key}={value}"))
                    .collect();
                let value = with(as_go(network), "Labels", json!(labels.join(",")));
                with(value, "ID", json!(id(network)))
            };
            let values: Vec<Value> = found.iter().map(value).collect();
            let titles = json!({ "Name": "NAME", "ID": "NETWORK ID", "Driver": "DRIVER", "Labels": "LABELS",
                "NetworkInterface": "NETWORK INTERFACE", "Created": "CREATED", "Subnets": "SUBNETS",
                "Routes": "ROUTES", "IPv6Enabled": "IPV6 ENABLED", "Internal": "INTERNAL",
                "DNSEnabled": "DNS ENABLED", "NetworkDNSServers": "NETWORK DNS SERVERS",
                "Options": "OPTIONS", "IPAMOptions": "IPAM OPTIONS" });
            print!("{}", template::lines(format, &titles, &values)?);
        }
        None => {
            let row = |network: &Network| {
                vec![
                    id(network),
                    network.spec.name.clone(),
                    network.spec.driver.word().to_owned(),
                ]
            };
            let rows: Vec<Vec<String>> = found.iter().map(row).collect();
            let table = output::table(&["NETWORK ID", "NAME", "DRIVER"], &rows);
            let kept = usize::from(args.noheading);
            table.lines().skip(kept).for_each(|line| println!("{line}"));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn prune(engine: &Engine, args: &PruneArgs) -> Result<ExitCode, Failure> {
    let filters = filters(&args.filter, true)?;
    let warning = "WARNING! This will remove all networks not used by at least one container.";
    if !args.force && !terminal::agreed(warning)? {
        return Ok(ExitCode::SUCCESS);
    }
    for name in sweep(engine, |network| fits(engine, network, &filters))? {
        println!("{name}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Removes the networks that nothing uses and that fit: their names.
pub(crate) fn sweep(
    engine: &Engine,
    fits: impl Fn(&Network) -> Result<bool, Failure>,
) -> Result<Vec<String>, Failure> {
    let mut removed = Vec::new();
    for network in engine.networks()? {
        if !fits(&network)? {
            continue;
        }
        match engine.remove_network(&network.spec.name) {
            Err(engine::Error::NetworkInUse { .. }) => {}
            outcome => {
                if outcome? {
                    removed.push(network.spec.name.clone());
                }
            }
        }
    }
    Ok(removed)
}

fn remove(engine: &Engine, args: &RmArgs) -> Result<ExitCode, Failure> {
    if args.time.is_some() && !args.force {
        let words = "--force option must be specified to use the --time option";
        return Err(Failure::new(words));
    }
    super::for_each(&args.networks, |text| {
        let network = match find(engine, text) {
            Err(failure) if failure.is_missing() && args.force => return Ok(()),
            found => found.map_err(|failure| match failure.is_missing() {
                true => failure.with_code(MISSING),
                false => failure,
            })?,
        };
        let name = &network.spec.name;
        if args.force && name != DEFAULT_NETWORK {
            for user in engine.users_of_network(name)? {
                clear_away(engine, &user, args.time)?;
            }
        }
        match engine.remove_network(name) {
            Err(error @ engine::Error::NetworkInUse { .. }) => {
                return Err(Failure::from(error).with_code(IN_USE));
            }
            removed => removed?,
        };
        println!("{text}");
        Ok(())
    })
}

/// Removes what is on a network: a pod that was made for itself, or a container with its own.
fn clear_away(engine: &Engine, user: &Pod, time: Option<i64>) -> Result<(), Failure> {
    debug_assert!(!networks_of(user).is_empty());
    if user.spec.by_itself {
        return pod::remove(engine, user, true, time);
    }
    let in_it = engine.containers(&ContainerFilter {
        pod_id: Some(user.id.clone()),
        ..ContainerFilter::default()
    })?;
    for container in &in_it {
        engine.stop_container(&container.id, stop::patience(container, time))?;
        rm::remove(engine, container)?;
        rm::remove_volumes(engine, container)?;
    }
    if in_it.is_empty()
        || !in_it
            .iter()
            .any(|container| names::is_alone(user, container))
    {
        engine.remove_pod(&user.id)?;
    }
    Ok(())
}
