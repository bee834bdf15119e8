//! `[crio.checkpoint_restore]`: whether containers are written down, and pods made from that.

use serde::{Deserialize, Serialize};

use super::Config;

/// `[crio.checkpoint_restore]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckpointRestore {
    /// `none`, `checkpoint_only`, or `checkpoint_restore`: RestorePod too.
    pub container_level_enabled: CheckpointLevel,
}

/// What of checkpoints may be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckpointLevel {
    /// Nothing.
    None,
    /// They may be taken.
    #[default]
    #[serde(alias = "checkpoint-only")]
    CheckpointOnly,
    /// And pods may be made from them.
    #[serde(alias = "checkpoint-restore")]
    CheckpointRestore,
}

impl CheckpointLevel {
    /// As the configuration names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::CheckpointOnly => "checkpoint_only",
            Self::CheckpointRestore => "checkpoint_restore",
        }
    }
}

impl Config {
    /// What of checkpoints may be used: nothing either where CRI-O's older key says so.
    #[must_use]
    pub fn checkpoints(&self) -> CheckpointLevel {
        match self.runtime.enable_criu_support {
            true => self.checkpoint_restore.container_level_enabled,
            false => CheckpointLevel::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_read_and_the_older_key_can_only_take_away() {
        let level = |text: &str| {
            let table: CheckpointRestore = toml::from_str(text).unwrap();
            table.container_level_enabled
        };
        assert_eq!(level(""), CheckpointLevel::CheckpointOnly);
        for text in ["checkpoint_restore", "checkpoint-restore"] {
            let text = format!("container_level_enabled = '{text}'");
            assert_eq!(level(&text), CheckpointLevel::CheckpointRestore);
        }
        let wrong = toml::from_str::<CheckpointRestore>("container_level_enabled = 'all'");
        assert!(wrong.unwrap_err().to_string().contains("checkpoint_only"));
        let mut config = Config::default();
        assert_eq!(config.checkpoints().name(), "checkpoint_only");
        config.runtime.enable_criu_support = false;
        assert_eq!(config.checkpoints(), CheckpointLevel::None);
    }
}
