//! The program `floe`: the CRI engine (`floe serve`) and the commands for people.
//! Parse, dispatch, and the one place where an error becomes a message and an exit code.

#![allow(
    rustdoc::broken_intra_doc_links,
    reason = "the help of commands has brackets around what is optional"
)]

mod attach;
mod buildah;
mod cli;
mod clock;
mod cmd;
mod containers_conf;
mod detach;
mod failure;
mod filters;
mod global;
mod names;
mod output;
mod progress;
mod refused;
mod remote;
mod skopeo;
mod template;
mod terminal;
mod warnings;

use std::process::ExitCode;

use clap::Parser;
use cli::{AboutCommand, Cli, Command, MoveCommand, NodeCommand};
use failure::{FAILED, Failure, Nature};
use global::Global;

fn main() -> ExitCode {
    if skopeo::is_meant() {
        return parsed::<skopeo::Skopeo>(skopeo::FAILED, |cli| {
            skopeo::run(cli).map_err(|failure| {
                let code = match failure.nature() {
                    Nature::Missing => skopeo::MISSING,
                    Nature::Passing | Nature::Lasting => skopeo::FAILED,
                };
                failure.with_code(code)
            })
        });
    }
    if buildah::is_meant() {
        return parsed(FAILED, buildah::run);
    }
    if crictl::is_meant() {
        return crictl::main(template::render_known);
    }
    if cmd::publish::is_meant() {
        return parsed(FAILED, cmd::publish::run);
    }
    parsed(FAILED, dispatch)
}

/// Parses the command line and does what it says; what cannot be parsed ends with `failed`.
fn parsed<C: Parser>(failed: u8, run: impl FnOnce(C) -> Result<ExitCode, Failure>) -> ExitCode {
    let outcome = match C::try_parse() {
        Ok(cli) => run(cli),
        Err(error) => {
            let code = if error.use_stderr() { failed } else { 0 };
            // Nobody is left to be told that standard output is closed.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            // Line by line: names in a message may be an image's.
            let lines = error.message.lines().map(image::printable);
            eprintln!("Error: {}", lines.collect::<Vec<_>>().join("\n"));
            ExitCode::from(error.code)
        }
    }
}

fn dispatch(mut cli: Cli) -> Result<ExitCode, Failure> {
    cli.podman.apply(&mut cli.global)?;
    match cli.command {
        Command::Serve(mut args) => {
            cli.global.config = args.config.take().or(cli.global.config);
            cli.global.config_dir = args.config_dir.take().or(cli.global.config_dir);
            cli.global.listen = args.listen.take();
            cli.global.said = args.crio.take();
            cmd::serve::run(&cli.global, &args)
        }
        Command::Registry(args) => cmd::registry::run(&cli.global, args),
        Command::Completion(args) => cmd::documents::completion(&args),
        Command::Man(args) => cmd::documents::man(&args),
        Command::Cri(command) => Ok(command.run(template::render_known)),
        Command::Buildah(command) => {
            show_warnings();
            cmd::buildah::run(&cli.global, *command)
        }
        Command::About(command) => match command {
            AboutCommand::Config(args) => cmd::config::run(&cli.global, &args),
            AboutCommand::Status(args) => cmd::status::run(&cli.global, &args),
            AboutCommand::Pulls(args) => cmd::pulls::run(&cli.global, &args),
            AboutCommand::Version(args) => cmd::version::run(&args),
        },
        Command::Node(command) => {
            show_warnings();
            on_node(&cli.global, command)
        }
        Command::Move(MoveCommand::Inspect(args)) if args.is_of_this_node() => {
            show_warnings();
            cmd::inspect::stored::run(&cli.global.open()?, &args)
        }
        Command::Move(command) => {
            show_warnings();
            move_images(&cli.global, command)
        }
    }
}

/// What registries warn of, people are told of.
fn show_warnings() {
    warnings::of_the_store();
    distribution::show_warnings(|registry, words| {
        progress::note(&format!("Warning: {registry}: {words}"));
    });
}

fn on_node(global: &Global, command: NodeCommand) -> Result<ExitCode, Failure> {
    let engine = match command {
        NodeCommand::Build(_) => global.open_for_build()?,
        _ => global.open()?,
    };
    match command {
        NodeCommand::Build(args) => cmd::build::run(global, &engine, &args),
        NodeCommand::Pull(args) => cmd::pull::run(global, &engine, &args),
        NodeCommand::Images(args) => cmd::images::run(&engine, &args),
        NodeCommand::Rmi(args) => cmd::rmi::run(&engine, &args),
        NodeCommand::Run(args) => cmd::run::run(global, &engine, *args),
        NodeCommand::Create(args) => cmd::create::run(global, &engine, *args),
        NodeCommand::Start(args) => cmd::start::run(&engine, &args),
        NodeCommand::Restart(args) => cmd::start::restart(&engine, &args),
        NodeCommand::Attach(args) => cmd::join::run(&engine, &args),
        NodeCommand::Kill(args) => cmd::kill::run(&engine, &args),
        NodeCommand::Pause(args) => cmd::kill::pause(&engine, &args),
        NodeCommand::Unpause(args) => cmd::kill::unpause(&engine, &args),
        NodeCommand::Wait(args) => cmd::wait::run(&engine, &args),
        NodeCommand::Port(args) => cmd::port::run(&engine, &args),
        NodeCommand::Cp(args) => cmd::cp::run(&engine, &args),
        NodeCommand::Export(args) => cmd::cp::export(&engine, &args),
        NodeCommand::Top(args) => cmd::top::run(&engine, &args),
        NodeCommand::Stats(args) => cmd::stats::run(&engine, &args),
        NodeCommand::Update(args) => cmd::update::run(&engine, &args),
        NodeCommand::Rename(args) => cmd::rename::run(&engine, &args),
        NodeCommand::Events(args) => cmd::events::run(&engine, &args),
        NodeCommand::Healthcheck(command) => cmd::healthcheck::run(&engine, &command),
        NodeCommand::Ps(args) => cmd::ps::run(&engine, &args),
        NodeCommand::Logs(args) => cmd::logs::run(&engine, &args),
        NodeCommand::Exec(args) => cmd::exec::run(&engine, &args),
        NodeCommand::Stop(args) => cmd::stop::run(&engine, &args),
        NodeCommand::Rm(args) => cmd::rm::run(&engine, &args),
        NodeCommand::Untag(args) => cmd::untag::run(&engine, &args),
        NodeCommand::Mount(args) => cmd::mount::containers(&engine, &args),
        NodeCommand::Unmount(args) => cmd::mount::unmount(&engine, &args),
        NodeCommand::Tag(args) => cmd::stored::tag(&engine, &args),
        NodeCommand::Push(args) => cmd::stored::push(global, &engine, &args),
        NodeCommand::Save(args) => cmd::stored::save(global, &engine, &args),
        NodeCommand::History(args) => cmd::history::run(&engine, &args),
        NodeCommand::Commit(args) => cmd::commit::run(&engine, &args),
        NodeCommand::Diff(args) => cmd::diff::run(&engine, &args),
        NodeCommand::Import(args) => cmd::import::run(global, &engine, &args),
        NodeCommand::Container(command) => cmd::container::run(global, &engine, command),
        NodeCommand::Pod(command) => cmd::pod::run(&engine, &command),
        NodeCommand::Network(command) => cmd::network::run(&engine, &command),
        NodeCommand::Volume(command) => cmd::volume::run(&engine, &command),
        NodeCommand::Secret(command) => cmd::secret::run(&engine, &command),
        NodeCommand::Info(args) => cmd::info::run(&engine, &args),
        NodeCommand::Image(command) => cmd::image::run(global, &engine, command),
        NodeCommand::Manifest(command) => cmd::manifest::run(global, &engine, command),
        NodeCommand::System(command) => cmd::system::run(&engine, &command),
        NodeCommand::Check(args) => cmd::system::check(&engine, &args),
        NodeCommand::Wipe(args) => cmd::wipe::run(&engine, &args),
        NodeCommand::Load(args) => cmd::stored::load(global, &engine, &args),
    }
}

fn move_images(global: &Global, command: MoveCommand) -> Result<ExitCode, Failure> {
    match command {
        MoveCommand::Copy(args) => cmd::copy::run(global, &args),
        MoveCommand::Artifact(command) => cmd::artifact::run(global, &command),
        MoveCommand::Sync(args) => cmd::sync::run(global, &args),
        MoveCommand::Inspect(args) => cmd::inspect::run(global, &args),
        MoveCommand::ListTags(args) => cmd::list_tags::run(global, &args),
        MoveCommand::Delete(args) => cmd::delete::run(global, &args),
        MoveCommand::ManifestDigest(args) => cmd::manifest_digest::run(&args),
        MoveCommand::Layers(args) => cmd::layers::run(global, &args),
        MoveCommand::UntrustedSignatureDump(args) => cmd::sign::dump(&args),
        MoveCommand::ExperimentalImageProxy(_) => Err(Failure::new(
            "experimental-image-proxy is not offered: floe has no server of images on a socket",
        )),
        MoveCommand::StandaloneSign(args) => cmd::sign::standalone_sign(&args),
        MoveCommand::StandaloneVerify(args) => cmd::sign::standalone_verify(&args),
        MoveCommand::GenerateSigstoreKey(args) => cmd::sign::generate(&args),
        MoveCommand::Login(args) => cmd::login::login(global, &args),
        MoveCommand::Logout(args) => cmd::login::logout(global, &args),
    }
}
