//! Every field of every request, by the schema itself: out of range, huge, of another type, missing. Whatever comes
//! is refused by the field's name, or done; the engine lives on, and nothing is left behind.
//!
//! The requests go over the socket as bytes: no client's types stand between. A field that the schema gets is
//! looked at by itself, and an RPC that no test has a request for fails [`every_rpc_is_gone_over`].
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use bytes::{Buf, BufMut};
use prost::Message as _;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::common::{World, image_spec, world};
use cri::*;

/// What a field holds (descriptor.proto, `FieldDescriptorProto.Type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Fixed,
    Text,
    Bytes,
    /// By its place in [`Schema::messages`].
    Message(usize),
}

#[derive(Debug, Clone)]
struct Field {
    name: String,
    number: u32,
    kind: Kind,
    repeated: bool,
}

#[derive(Debug)]
struct Message {
    name: String,
    fields: Vec<Field>,
}

#[derive(Debug, Clone)]
struct Rpc {
    service: String,
    name: String,
    request: usize,
    streams: bool,
}

#[derive(Debug)]
struct Schema {
    messages: Vec<Message>,
    rpcs: Vec<Rpc>,
}

impl Schema {
    fn load() -> Self {
        let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cri/proto");
        let set = protox::compile(["runtime/v1/api.proto"], [proto]).unwrap();
        let file = &set.file[0];
        let mut names: Vec<String> = Vec::new();
        for message in &file.message_type {
            names.push(format!(".runtime.v1.{}", message.name()));
        }
        // Entries of maps are messages too, inside of the one that has the map.
        for message in &file.message_type {
            for entry in &message.nested_type {
                names.push(format!(".runtime.v1.{}.{}", message.name(), entry.name()));
            }
        }
        let place = |name: &str| names.iter().position(|one| one == name).unwrap();
        let nested = file.message_type.iter().flat_map(|one| &one.nested_type);
        let messages = file
            .message_type
            .iter()
            .chain(nested)
            .map(|message| Message {
                name: message.name().to_owned(),
                fields: message
                    .field
                    .iter()
                    .map(|field| Field {
                        name: field.name().to_owned(),
                        number: u32::try_from(field.number()).unwrap(),
                        kind: match field.r#type() as i32 {
                            1 | 6 | 16 => Kind::Fixed,
                            9 => Kind::Text,
                            11 => Kind::Message(place(field.type_name())),
                            12 => Kind::Bytes,
                            3 | 4 | 5 | 8 | 13 | 14 | 17 | 18 => Kind::Number,
                            other => panic!("a type that this test does not know: {other}"),
                        },
                        repeated: field.label() as i32 == 3,
                    })
                    .collect(),
            });
        let messages = messages.collect();
        let rpcs = file.service.iter().flat_map(|service| {
            service.method.iter().map(|method| Rpc {
                service: service.name().to_owned(),
                name: method.name().to_owned(),
                request: place(method.input_type()),
                streams: method.server_streaming(),
            })
        });
        let rpcs = rpcs.collect();
        Schema { messages, rpcs }
    }

    /// The ways to every field below a message. What Windows has is looked at as a whole.
    fn ways(&self, message: usize) -> Vec<Vec<Field>> {
        let mut found = Vec::new();
        let mut open: Vec<(usize, Vec<Field>)> = vec![(message, Vec::new())];
        while let Some((message, above)) = open.pop() {
            for field in &self.messages[message].fields {
                let mut way = above.clone();
                way.push(field.clone());
                // A pod's configuration is sent again with others' requests: RunPodSandbox is where it counts.
                if let Kind::Message(inside) = field.kind
                    && !self.messages[inside].name.starts_with("Windows")
                    && field.name != "sandbox_config"
                {
                    open.push((inside, way.clone()));
                }
                found.push(way);
            }
        }
        found
    }
}

fn varint(mut number: u64, into: &mut Vec<u8>) {
    while number > 0x7f {
        into.push((number as u8 & 0x7f) | 0x80);
        number >>= 7;
    }
    into.push(number as u8);
}

/// A field with bytes of a length.
fn part(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    varint(u64::from(number) << 3 | 2, &mut all);
    varint(bytes.len() as u64, &mut all);
    all.extend(bytes);
    all
}

fn number(field: u32, value: u64) -> Vec<u8> {
    let mut all = Vec::new();
    varint(u64::from(field) << 3, &mut all);
    varint(value, &mut all);
    all
}

/// Bad values of a field, encoded with its number, and what is bad in a word.
fn bad_values(field: &Field) -> Vec<(&'static str, Vec<u8>)> {
    const MANY: usize = 20_000;
    let at = field.number;
    let mut values = match field.kind {
        Kind::Number => vec![
            ("negative", number(at, (-1_i64) as u64)),
            ("least", number(at, i64::MIN as u64)),
            ("greatest", number(at, i64::MAX as u64)),
            ("2^31", number(at, 1 << 31)),
            ("a text", part(at, b"7")),
        ],
        Kind::Fixed => vec![("a number", number(at, 7))],
        Kind::Text => vec![
            ("huge", part(at, "x".repeat(200_000).as_bytes())),
            ("zero byte", part(at, b"a\0b")),
            ("above", part(at, b"../../../../../etc")),
            ("control", part(at, b"\x1b[2J\n\xe2\x80\xae")),
            ("no text", part(at, b"\xff\xfe")),
            ("a number", number(at, 7)),
        ],
        Kind::Bytes => vec![
            ("huge", part(at, &[b'x'; 300_000])),
            ("zero byte", part(at, b"a\0b")),
            ("a number", number(at, 7)),
        ],
        Kind::Message(_) => vec![
            ("empty", part(at, b"")),
            ("no message", part(at, b"\xff\xff\xff")),
            ("a number", number(at, 7)),
        ],
    };
    if field.repeated {
        let one = match field.kind {
            Kind::Number => number(at, 1),
            Kind::Fixed => vec![],
            Kind::Text | Kind::Bytes => part(at, b"/x"),
            Kind::Message(_) => part(at, b""),
        };
        values.push(("many", one.repeat(MANY)));
    }
    values
}

/// A value at the end of a way: merged with what the request has (protobuf, "Last One Wins").
fn at_the_end(way: &[Field], value: Vec<u8>) -> Vec<u8> {
    let above = way[..way.len() - 1].iter().rev();
    above.fold(value, |inner, field| part(field.number, &inner))
}

/// A request without the field at the end of a way; `None` if it has none there.
fn without(request: &[u8], way: &[Field]) -> Option<Vec<u8>> {
    let (mut rest, mut kept, mut found) = (request, Vec::new(), false);
    while rest.has_remaining() {
        let begin = rest;
        let key = prost::encoding::decode_varint(&mut rest).unwrap();
        let (number, wire) = ((key >> 3) as u32, key & 7);
        let inner = match wire {
            0 => {
                prost::encoding::decode_varint(&mut rest).unwrap();
                None
            }
            2 => {
                let length = prost::encoding::decode_varint(&mut rest).unwrap() as usize;
                let (inner, after) = rest.split_at(length);
                rest = after;
                Some(inner)
            }
            1 => {
                rest.advance(8);
                None
            }
            other => panic!("wire type {other}"),
        };
        let whole = &begin[..begin.len() - rest.len()];
        if number != way[0].number {
            kept.extend(whole);
        } else if way.len() == 1 {
            found = true;
        } else if let Some(changed) = inner.and_then(|inner| without(inner, &way[1..])) {
            found = true;
            kept.extend(part(number, &changed));
        } else {
            kept.extend(whole);
        }
    }
    found.then_some(kept)
}

/// Bytes as they are.
#[derive(Debug, Clone, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; buffer.remaining()];
        buffer.copy_to_slice(&mut bytes);
        Ok(Some(bytes))
    }
}

async fn call(channel: &Channel, rpc: &Rpc, request: Vec<u8>) -> Result<Vec<u8>, Status> {
    let mut client = Grpc::new(channel.clone()).max_decoding_message_size(80 << 20);
    client.ready().await.unwrap();
    let path = format!("/runtime.v1.{}/{}", rpc.service, rpc.name);
    let path = PathAndQuery::from_maybe_shared(path).unwrap();
    let limit = Duration::from_secs(120);
    let answer = async {
        match rpc.streams {
            // An endless one has begun, or was refused.
            true => {
                let begun = client.server_streaming(Request::new(request), path, Raw);
                begun.await.map(|_| Vec::new())
            }
            false => {
                let answer = client.unary(Request::new(request), path, Raw).await;
                answer.map(tonic::Response::into_inner)
            }
        }
    };
    tokio::time::timeout(limit, answer).await.unwrap()
}

/// The world that requests need.
struct Scene {
    pod: String,
    runs: String,
    ended: String,
}

impl Scene {
    async fn of(world: &World) -> Self {
        let pod = world.pod("scene").await;
        let runs = world.sleeper(&pod, "runs").await;
        let ended = world.run(&pod, world.config("ended", &["true"])).await;
        world.ended(&ended).await;
        Self {
            pod: pod.id.clone(),
            runs,
            ended,
        }
    }

    /// A request that is right; `None`: of this RPC there is none that harms nothing.
    fn request(&self, world: &World, rpc: &str, round: usize) -> Option<Vec<u8>> {
        let nobody = "0".repeat(64);
        let container_id = self.runs.clone();
        let pod_sandbox_id = self.pod.clone();
        let image = || Some(image_spec(&world.image));
        let cmd = vec!["true".to_owned()];
        Some(match rpc {
            "RunPodSandbox" => RunPodSandboxRequest {
                config: Some(pod_config(world, round)),
                ..Default::default()
            }
            .encode_to_vec(),
            "CreateContainer" => CreateContainerRequest {
                pod_sandbox_id,
                config: Some(world.container(&format!("c{round}"), &["sleep", "1000"])),
                sandbox_config: Some(world.pod_config("scene")),
            }
            .encode_to_vec(),
            "StopPodSandbox" | "RemovePodSandbox" | "RemoveContainer" => part(1, nobody.as_bytes()),
            "StopContainer" => part(1, self.ended.as_bytes()),
            "StartContainer" | "ReopenContainerLog" | "ContainerStats" | "ContainerStatus" => {
                part(1, container_id.as_bytes())
            }
            "PodSandboxStatus" | "PodSandboxStats" => part(1, pod_sandbox_id.as_bytes()),
            "UpdateContainerResources" => UpdateContainerResourcesRequest {
                container_id,
                linux: Some(LinuxContainerResources {
                    cpu_shares: 100,
                    ..Default::default()
                }),
                ..Default::default()
            }
            .encode_to_vec(),
            "UpdatePodSandboxResources" => UpdatePodSandboxResourcesRequest {
                pod_sandbox_id,
                ..Default::default()
            }
            .encode_to_vec(),
            "ExecSync" => ExecSyncRequest {
                container_id,
                cmd,
                timeout: 20,
            }
            .encode_to_vec(),
            "Exec" => ExecRequest {
                container_id,
                cmd,
                stdout: true,
                ..Default::default()
            }
            .encode_to_vec(),
            "Attach" => AttachRequest {
                container_id,
                stdout: true,
                ..Default::default()
            }
            .encode_to_vec(),
            "PortForward" => PortForwardRequest {
                pod_sandbox_id,
                port: vec![80],
            }
            .encode_to_vec(),
            "PullImage" => PullImageRequest {
                image: image(),
                ..Default::default()
            }
            .encode_to_vec(),
            "ImageStatus" => ImageStatusRequest {
                image: image(),
                verbose: true,
            }
            .encode_to_vec(),
            "RemoveImage" => RemoveImageRequest {
                image: Some(image_spec("example.invalid/nothing:1")),
            }
            .encode_to_vec(),
            // Of somebody who is not there.
            "CheckpointContainer" | "CheckpointPod" => {
                [part(1, nobody.as_bytes()), part(2, b"/nowhere/it")].concat()
            }
            // Restores are off, unless the configuration says otherwise: a right one is refused for that.
            "RestorePod" => RestorePodRequest {
                checkpoint_path: "/nowhere/it".into(),
                config: Some(pod_config(world, round)),
                container_configs: vec![world.container("c", &["sleep", "1000"])],
                ..Default::default()
            }
            .encode_to_vec(),
            _ if rpc.starts_with("List") || rpc.starts_with("Stream") => Vec::new(),
            "Version"
            | "Status"
            | "RuntimeConfig"
            | "UpdateRuntimeConfig"
            | "ImageFsInfo"
            | "GetContainerEvents" => Vec::new(),
            _ => return None,
        })
    }
}

fn pod_config(world: &World, round: usize) -> PodSandboxConfig {
    let mut config = world.pod_config("p");
    config.metadata.as_mut().unwrap().uid = format!("uid-{round}");
    config.hostname.clear();
    let linux = config.linux.get_or_insert_default();
    linux.cgroup_parent = format!("{}/fields", world.node.cgroup());
    config
}

/// What an answer may be.
fn judge(rpc: &Rpc, way: &[Field], what: &str, answer: &Result<Vec<u8>, Status>) -> Option<String> {
    let names: Vec<&str> = way.iter().map(|field| field.name.as_str()).collect();
    let about = format!("{} {} {what}", rpc.name, names.join("."));
    let Err(status) = answer else { return None };
    let said = status.message();
    match status.code() {
        // A request that says nothing of its own, or a name of nobody.
        Code::NotFound | Code::FailedPrecondition | Code::Unimplemented | Code::AlreadyExists => {
            None
        }
        Code::ResourceExhausted | Code::PermissionDenied => None,
        Code::InvalidArgument => {
            // What contradicts another field is named by what has both.
            let all = ["config", "linux", "security_context"];
            let lower = said.to_lowercase();
            let named = names.iter().enumerate().any(|(place, name)| {
                let counts = place + 1 == names.len() || !all.contains(name);
                counts && lower.contains(&name.to_lowercase())
            });
            (!named).then(|| format!("{about}: does not name the field: {said}"))
        }
        code => Some(format!("{about}: {code:?}: {said}")),
    }
}

/// What was made is taken away again.
async fn undo(world: &World, rpc: &Rpc, answer: &Result<Vec<u8>, Status>) {
    let Ok(answer) = answer else { return };
    match rpc.name.as_str() {
        "RunPodSandbox" => {
            let made = RunPodSandboxResponse::decode(answer.as_slice()).unwrap();
            world.remove_pod(&made.pod_sandbox_id).await.unwrap();
        }
        "CreateContainer" => {
            let made = CreateContainerResponse::decode(answer.as_slice()).unwrap();
            world.remove(&made.container_id).await.unwrap();
        }
        _ => {}
    }
}

async fn go_over(world: &World, wanted: impl Fn(&str) -> bool) {
    let schema = Schema::load();
    let scene = Scene::of(world).await;
    let engine = world.node.engine_pid();
    let channel = world.node.clients().await.unwrap().channel;
    let (mut round, mut flaws) = (0, BTreeSet::new());
    for rpc in schema.rpcs.iter().filter(|rpc| wanted(&rpc.name)) {
        let right = scene.request(world, &rpc.name, round).unwrap();
        let answer = call(&channel, rpc, right.clone()).await;
        let refused = answer
            .as_ref()
            .is_err_and(|status| status.code() == Code::InvalidArgument);
        assert!(!refused || right.is_empty(), "{}: {answer:?}", rpc.name);
        undo(world, rpc, &answer).await;
        for way in schema.ways(rpc.request) {
            let leaf = way.last().unwrap();
            let mut bad = Vec::new();
            for (what, value) in bad_values(leaf) {
                round += 1;
                let mut request = scene.request(world, &rpc.name, round).unwrap();
                request.extend(at_the_end(&way, value));
                bad.push((what, request));
            }
            round += 1;
            let request = scene.request(world, &rpc.name, round).unwrap();
            bad.extend(without(&request, &way).map(|less| ("missing", less)));
            for (what, request) in bad {
                let answer = call(&channel, rpc, request).await;
                flaws.extend(judge(rpc, &way, what, &answer));
                undo(world, rpc, &answer).await;
            }
        }
    }
    let flaws: Vec<String> = flaws.into_iter().collect();
    assert!(
        flaws.is_empty(),
        "{} flaws:\n{}",
        flaws.len(),
        flaws.join("\n")
    );
    assert_eq!(
        world.node.engine_pid(),
        engine,
        "it was another engine in between"
    );
    assert_eq!(world.said(&scene.runs, &["echo", "alive"]).await, "alive");
    crate::bad_requests::remove_parents(world.node.cgroup());
}

const PODS: [&str; 1] = ["RunPodSandbox"];
const CONTAINERS: [&str; 1] = ["CreateContainer"];

#[test]
fn every_rpc_is_gone_over() {
    world(async |world| {
        let scene = Scene::of(world).await;
        for rpc in Schema::load().rpcs {
            assert!(scene.request(world, &rpc.name, 0).is_some(), "{rpc:?}");
        }
    });
}

#[test]
fn every_field_of_a_pod_is_refused_by_name_or_accepted() {
    world(async |world| go_over(world, |rpc| PODS.contains(&rpc)).await);
}

#[test]
fn every_field_of_a_container_is_refused_by_name_or_accepted() {
    world(async |world| go_over(world, |rpc| CONTAINERS.contains(&rpc)).await);
}

#[test]
fn every_field_of_every_other_request_is_refused_by_name_or_accepted() {
    let others = |rpc: &str| !PODS.contains(&rpc) && !CONTAINERS.contains(&rpc);
    world(async |world| go_over(world, others).await);
}
