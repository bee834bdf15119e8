//! `--network`, `--ip`, `--mac-address`, `--network-alias`: which networks a container or a pod is on, and how. The
//! words and the errors are podman's.

use std::net::IpAddr;

use engine::networks::{DEFAULT_NETWORK, Joining};
use engine::pod::NamespaceMode;

use crate::failure::Failure;

/// Words that stand for a mode, and are no network's name.
const MODES: [&str; 9] = [
    "bridge",
    "pasta",
    "pod",
    "none",
    "default",
    "private",
    "ns",
    "container",
    "host",
];

/// What is said of networks.
#[derive(Debug, clap::Args)]
pub(crate) struct Networks {
    /// bridge, none, host, or NAME[:ip=IP,mac=MAC,alias=NAME,interface_name=NAME] of a network, several times
    #[arg(long, alias = "net", value_name = "NETWORK")]
    network: Vec<String>,
    /// IPv4 address on the network
    #[arg(long, value_name = "IP")]
    ip: Option<String>,
    /// IPv6 address on the network
    #[arg(long, value_name = "IP")]
    ip6: Option<String>,
    /// Hardware address of the interface
    #[arg(long, value_name = "MAC")]
    mac_address: Option<String>,
    /// A further name on its networks
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    network_alias: Vec<String>,
}

/// What it comes to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Host,
    None,
    /// The networks; none: the configuration's.
    Bridge(Vec<Joining>),
}

impl Mode {
    /// Whose network it is.
    pub(super) fn namespace(&self) -> NamespaceMode {
        match self {
            Self::Host => NamespaceMode::Node,
            Self::None | Self::Bridge(_) => NamespaceMode::Pod,
        }
    }
}

impl Networks {
    /// Is anything said?
    pub(super) fn is_given(&self) -> bool {
        !self.network.is_empty()
            || self.ip.is_some()
            || self.ip6.is_some()
            || self.mac_address.is_some()
            || !self.network_alias.is_empty()
    }

    /// What is asked for.
    pub(super) fn mode(&self) -> Result<Mode, Failure> {
        let mut mode = first(self.network.first().map_or("", String::as_str))?;
        if self.network.len() > 1 {
            let Mode::Bridge(joined) = &mut mode else {
                return Err(Failure::new(format!(
                    "cannot set multiple networks without bridge network mode, selected mode {}: invalid argument",
                    self.network[0]
                )));
            };
            if joined.is_empty() {
                joined.push(on(DEFAULT_NETWORK));
            }
            for text in &self.network[1..] {
                let (name, options) = text.split_once(':').unwrap_or((text, ""));
                if MODES.contains(&name) {
                    return Err(Failure::new(format!(
                        "can only set extra network names, selected mode {name} conflicts with bridge: invalid argument"
                    )));
                }
                joined.push(with_options(name, options)?);
            }
        }
        self.add_single_options(&mut mode)?;
        if let Mode::Bridge(joined) = &mut mode
            && let [only] = joined.as_slice()
            && *only == on(DEFAULT_NETWORK)
        {
            joined.clear();
        }
        Ok(mode)
    }

    /// What flags of their own say of the one network, or of all.
    fn add_single_options(&self, mode: &mut Mode) -> Result<(), Failure> {
        let addresses = [("ip", &self.ip), ("ip6", &self.ip6)];
        let given = addresses
            .iter()
            .filter_map(|(flag, text)| Some((*flag, text.as_ref()?)));
        let mut wished: Vec<(&str, Option<IpAddr>)> = Vec::new();
        for (flag, text) in given {
            let ip = text.parse();
            let ip: IpAddr =
                ip.map_err(|_| Failure::new(format!("{text:?} is not an ip address")))?;
            wished.push((flag, Some(ip)));
        }
        let mac = self.mac_address.as_deref().map(mac).transpose()?;
        if mac.is_some() {
            wished.push(("mac-address", None));
        }
        if !self.network_alias.is_empty() {
            wished.push(("network-alias", None));
        }
        let Some((flag, _)) = wished.first() else {
            return Ok(());
        };
        let Mode::Bridge(joined) = mode else {
            return Err(Failure::new(format!(
                "--{flag} can only be set when the network mode is bridge: invalid argument"
            )));
        };
        if joined.is_empty() {
            joined.push(on(DEFAULT_NETWORK));
        }
        let one_only = wished.iter().find(|(flag, _)| *flag != "network-alias");
        if let Some((flag, _)) = one_only
            && joined.len() != 1
        {
            return Err(Failure::new(format!(
                "--{flag} can only be set for a single network: invalid argument"
            )));
        }
        for one in joined {
            one.ips.extend(wished.iter().filter_map(|(_, ip)| *ip));
            one.mac = mac.or(one.mac);
            if !self.network_alias.is_empty() {
                one.aliases.clone_from(&self.network_alias);
            }
        }
        Ok(())
    }
}

/// What the first `--network` says, which decides of the mode.
fn first(text: &str) -> Result<Mode, Failure> {
    let (word, options) = text
        .split_once(':')
        .map_or((text, None), |(word, options)| (word, Some(options)));
    match (word, options) {
        ("" | "default" | "private", None) => Ok(Mode::Bridge(Vec::new())),
        ("host", None) => Ok(Mode::Host),
        ("none", None) => Ok(Mode::None),
        ("bridge", options) => {
            let one = with_options(DEFAULT_NETWORK, options.unwrap_or_default())?;
            Ok(Mode::Bridge(vec![one]))
        }
        ("pasta" | "slirp4netns" | "ns" | "container" | "pod", _) => Err(Failure::new(format!(
            "--network {text}: not offered: floe has bridge, none, host and the networks of floe network"
        ))),
        ("", Some(_)) => Err(Failure::new("network name cannot be empty")),
        (name, Some(options)) => Ok(Mode::Bridge(vec![with_options(name, options)?])),
        (names, None) => {
            let names = names.split(',');
            Ok(Mode::Bridge(names.map(on).collect()))
        }
    }
}

fn on(name: &str) -> Joining {
    Joining {
        network: name.to_owned(),
        ..Joining::default()
    }
}

/// A network with `ip=…,mac=…,alias=…,interface_name=…`.
pub(crate) fn with_options(name: &str, options: &str) -> Result<Joining, Failure> {
    if name.is_empty() {
        return Err(Failure::new(
            "network name cannot be empty: invalid argument",
        ));
    }
    let wrong = |why: String| Failure::new(format!("invalid option for network {name}: {why}"));
    let mut one = on(name);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        match key {
            "ip" | "ip6" => {
                let ip = value.parse();
                one.ips
                    .push(ip.map_err(|_| wrong(format!("invalid ip address {value:?}")))?);
            }
            "mac" => one.mac = Some(mac(value).map_err(|error| wrong(error.message))?),
            "alias" if value.is_empty() => return Err(wrong("alias cannot be empty".into())),
            "alias" => one.aliases.push(value.to_owned()),
            "interface_name" if value.is_empty() => {
                return Err(wrong("interface_name cannot be empty".into()));
            }
            "interface_name" => one.interface = value.to_owned(),
            other => return Err(wrong(format!("{other:?} is not one of a bridge's here"))),
        }
    }
    Ok(one)
}

fn mac(text: &str) -> Result<engine::crates::network::Mac, Failure> {
    let wrong = |_| Failure::new(format!("address {text}: invalid MAC address"));
    text.parse().map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(network: &[&str]) -> Networks {
        Networks {
            network: network.iter().map(|&text| text.to_owned()).collect(),
            ip: None,
            ip6: None,
            mac_address: None,
            network_alias: Vec::new(),
        }
    }

    fn names(networks: &Networks) -> Vec<String> {
        match networks.mode().unwrap() {
            Mode::Bridge(joined) => joined.into_iter().map(|one| one.network).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn words_are_modes_and_all_else_are_networks() {
        assert_eq!(asked(&["host"]).mode().unwrap(), Mode::Host);
        assert_eq!(asked(&["none"]).mode().unwrap(), Mode::None);
        for default in [
            &[][..],
            &["bridge"],
            &["default"],
            &["private"],
            &["podman"],
        ] {
            assert!(names(&asked(default)).is_empty(), "{default:?}");
        }
        assert_eq!(names(&asked(&["a,b"])), ["a", "b"]);
        assert_eq!(names(&asked(&["a:ip=10.0.0.2", "b"])), ["a", "b"]);
        assert_eq!(names(&asked(&["bridge", "b"])), ["podman", "b"]);
        for bad in [
            &["host", "a"][..],
            &["a", "host"],
            &["container:x"],
            &[":ip=1.2.3.4"],
            &["a:ip=x"],
            &["a:what=x"],
            &["a", ":alias=x"],
        ] {
            assert!(asked(bad).mode().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn flags_of_one_network_are_not_for_two() {
        let mut one = asked(&["a"]);
        one.ip = Some("10.0.0.5".into());
        one.mac_address = Some("02:00:00:00:00:05".into());
        one.network_alias = vec!["web".into()];
        let Mode::Bridge(joined) = one.mode().unwrap() else {
            panic!("no bridge");
        };
        assert_eq!(joined[0].ips, ["10.0.0.5".parse::<IpAddr>().unwrap()]);
        assert_eq!(joined[0].aliases, ["web"]);
        one.network.push("b".into());
        let error = one.mode().unwrap_err().message;
        assert_eq!(
            error,
            "--ip can only be set for a single network: invalid argument"
        );
        one.network = vec!["host".into()];
        let error = one.mode().unwrap_err().message;
        assert!(error.contains("when the network mode is bridge"), "{error}");
    }
}
