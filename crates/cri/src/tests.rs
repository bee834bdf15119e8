//! The wire, byte by byte: numbers that a slip in the schema would change without any compiler
//! noticing. A key is `field number << 3 | wire type`, as a varint.

use prost::Message;

use super::*;

const VARINT: u32 = 0;
const DOUBLE: u32 = 1;
const LENGTH: u32 = 2;

/// The key and the rest of a message with one field set.
fn encoded(message: &impl Message) -> (u32, Vec<u8>) {
    let bytes = message.encode_to_vec();
    let mut rest = bytes.as_slice();
    let key = prost::encoding::decode_varint(&mut rest).unwrap();
    (u32::try_from(key).unwrap(), rest.to_vec())
}

fn key(number: u32, wire: u32) -> u32 {
    number << 3 | wire
}

#[test]
fn numbers_that_are_out_of_order_in_their_message_are_the_interfaces() {
    let image = ImageSpec {
        user_specified_image: "a".into(),
        ..Default::default()
    };
    assert_eq!(encoded(&image), (key(18, LENGTH), vec![1, b'a']));
    let image = ImageSpec {
        image_ref: "a".into(),
        ..Default::default()
    };
    assert_eq!(encoded(&image), (key(20, LENGTH), vec![1, b'a']));
    let user = Some(Int64Value { value: 7 });
    let context = LinuxContainerSecurityContext {
        run_as_group: user,
        ..Default::default()
    };
    assert_eq!(encoded(&context), (key(12, LENGTH), vec![2, 8, 7]));
    let strict = SupplementalGroupsPolicy::Strict.into();
    let context = LinuxContainerSecurityContext {
        supplemental_groups_policy: strict,
        ..Default::default()
    };
    assert_eq!(encoded(&context), (key(17, VARINT), vec![1]));
    let context = LinuxSandboxSecurityContext {
        run_as_group: user,
        ..Default::default()
    };
    assert_eq!(encoded(&context), (key(8, LENGTH), vec![2, 8, 7]));
    let context = LinuxSandboxSecurityContext {
        supplemental_groups_policy: strict,
        ..Default::default()
    };
    assert_eq!(encoded(&context), (key(11, VARINT), vec![1]));
    let namespace = Namespace {
        options: Some(NamespaceOption::default()),
    };
    assert_eq!(encoded(&namespace), (key(2, LENGTH), vec![0]));
}

#[test]
fn numbers_that_newer_kubernetes_added_are_the_interfaces() {
    let config = ContainerConfig {
        stop_signal: Signal::Sigrtmax.into(),
        ..Default::default()
    };
    assert_eq!(encoded(&config), (key(18, VARINT), vec![65]));
    let status = ContainerStatus {
        stop_signal: Signal::Sigterm.into(),
        ..Default::default()
    };
    assert_eq!(encoded(&status), (key(19, VARINT), vec![23]));
    let mount = Mount {
        image_sub_path: "a".into(),
        ..Default::default()
    };
    assert_eq!(encoded(&mount), (key(10, LENGTH), vec![1, b'a']));
    let mount = Mount {
        mount_options: vec!["a".into()],
        ..Default::default()
    };
    assert_eq!(encoded(&mount), (key(11, LENGTH), vec![1, b'a']));
    let features = RuntimeHandlerFeatures {
        mount_options: true,
        ..Default::default()
    };
    assert_eq!(encoded(&features), (key(3, VARINT), vec![1]));
    let restore = RestorePodRequest {
        container_configs: vec![ContainerConfig::default()],
        ..Default::default()
    };
    assert_eq!(encoded(&restore), (key(5, LENGTH), vec![0]));
    let limits = LinuxContainerResources {
        memory_swap_limit_in_bytes: -1,
        ..Default::default()
    };
    assert_eq!(encoded(&limits).0, key(10, VARINT));
    let stats = ContainerStats {
        io: Some(IoUsage::default()),
        ..Default::default()
    };
    assert_eq!(encoded(&stats), (key(6, LENGTH), vec![0]));
    let response = StatusResponse {
        features: Some(RuntimeFeatures::default()),
        ..Default::default()
    };
    assert_eq!(encoded(&response), (key(4, LENGTH), vec![0]));
    let pressure = PsiData {
        avg300: 1.5,
        ..Default::default()
    };
    assert_eq!(
        encoded(&pressure),
        (key(4, DOUBLE), 1.5_f64.to_le_bytes().to_vec())
    );
}

#[test]
fn enums_have_the_interfaces_numbers_and_names() {
    assert_eq!(NamespaceMode::Target as i32, 3);
    assert_eq!(CgroupDriver::Cgroupfs as i32, 1);
    assert_eq!(security_profile::ProfileType::Localhost as i32, 2);
    assert_eq!(ContainerState::ContainerUnknown as i32, 3);
    assert_eq!(Signal::try_from(24), Ok(Signal::Sigtrap));
    assert_eq!(Signal::Sigrtmaxminus14 as i32, 51);
    assert_eq!(Signal::Sigrtmin.as_str_name(), "SIGNAL_SIGRTMIN");
    assert_eq!(
        MountPropagation::PropagationBidirectional.as_str_name(),
        "PROPAGATION_BIDIRECTIONAL"
    );
}

#[test]
fn a_field_of_a_newer_kubelet_does_no_harm() {
    let mut bytes = Vec::new();
    prost::encoding::string::encode(1, &"0.1.0".to_owned(), &mut bytes);
    prost::encoding::string::encode(1000, &"from the future".to_owned(), &mut bytes);
    let request = VersionRequest::decode(bytes.as_slice()).unwrap();
    assert_eq!(request.version, "0.1.0");
}

#[test]
fn credentials_do_not_show_in_a_debug_line() {
    let auth = AuthConfig {
        username: "ann".into(),
        password: "s3cret".into(),
        auth: "s3cret".into(),
        identity_token: "s3cret".into(),
        registry_token: "s3cret".into(),
        server_address: "registry.example".into(),
    };
    let shown = format!(
        "{:?}",
        PullImageRequest {
            auth: Some(auth),
            ..Default::default()
        }
    );
    assert!(
        shown.contains("ann") && shown.contains("registry.example"),
        "{shown}"
    );
    assert!(!shown.contains("s3cret"), "{shown}");
}
