//! The Kubernetes Container Runtime Interface v1 of Kubernetes 1.36: types, server traits and
//! clients, generated from `proto/runtime/v1/api.proto`. Nothing else lives here.

// The schema is the documentation; what is generated cannot carry ours.
#![allow(missing_docs, unreachable_pub, clippy::all, clippy::unwrap_used, clippy::undocumented_unsafe_blocks)]

tonic::include_proto!("runtime.v1");

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    #[test]
    fn field_numbers_are_those_of_the_interface() {
        let wire = |message: &dyn Fn() -> Vec<u8>| message();
        let image = wire(&|| ImageSpec { image_ref: "x".into(), ..Default::default() }.encode_to_vec());
        assert_eq!(image, [0xa2, 0x01, 1, b'x']);
        let status = wire(&|| ContainerStatus { stop_signal: Signal::Sigterm.into(), ..Default::default() }.encode_to_vec());
        assert_eq!(status, [0x98, 0x01, 23]);
        let usage = wire(&|| PsiData { avg10: 1.0, ..Default::default() }.encode_to_vec());
        assert_eq!(usage[0], 0x11);
    }
}
