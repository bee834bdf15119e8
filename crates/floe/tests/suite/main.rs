//! Every integration test of the crate `floe`, as one program: a program for each file would be linked,
//! statically, as often. One file for each subject; nextest runs each test in a process of its own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod cli;
mod cli_artifact;
mod cli_commands_table;
mod cli_config;
mod cli_copy;
mod cli_copy_index;
mod cli_crash;
mod cli_damage;
mod cli_exec;
mod cli_forms;
mod cli_full;
mod cli_hostile;
mod cli_hostile_documents;
mod cli_hostile_words;
mod cli_images;
mod cli_import;
mod cli_inspect_node;
mod cli_kill;
mod cli_lists;
mod cli_login;
mod cli_manifest;
mod cli_node;
mod cli_ordinary_user;
mod cli_progress;
mod cli_ps_logs;
mod cli_publish;
mod cli_registries;
mod cli_run;
mod cli_run_options;
mod cli_sign;
mod cli_skopeo_flags;
mod cli_skopeo_whole;
mod cli_stop_rm;
mod cli_storage;
mod cli_storage_bad;
mod cli_sync;
mod cli_system;
mod cli_trust;
mod registry_clients;
mod registry_mirror;
