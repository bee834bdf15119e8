//! How messages are read and written: as tonic's own codec does, and with an eye on requests.

use prost::bytes::Buf;
use prost::{Message, Name};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder};
use tonic_prost::{ProstCodec, ProstEncoder};

use crate::fields;

/// The codec of both services.
#[derive(Debug, Clone)]
pub(crate) struct Watching<T, U>(ProstCodec<T, U>);

impl<T, U> Default for Watching<T, U> {
    fn default() -> Self {
        Self(ProstCodec::default())
    }
}

impl<T, U> Codec for Watching<T, U>
where
    T: Message + Send + 'static,
    U: Message + Name + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = Watch<U>;

    fn encoder(&mut self) -> Self::Encoder {
        self.0.encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        Watch(std::marker::PhantomData)
    }
}

/// Reads messages, and tells the log of fields that a newer client has set.
#[derive(Debug, Clone)]
pub(crate) struct Watch<U>(std::marker::PhantomData<U>);

impl<U: Message + Name + Default> Decoder for Watch<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let bytes = buf.copy_to_bytes(buf.remaining());
        let message =
            U::decode(bytes.clone()).map_err(|error| match U::NAME.ends_with("Request") {
                // Who has sent it is at fault, and is told of which field.
                true => Status::invalid_argument(error.to_string()),
                false => Status::internal(error.to_string()),
            })?;
        for (message, number) in fields::new(fields::unknown(U::NAME, &bytes)) {
            tracing::warn!(
                message,
                number,
                "a client sets a field that is not in CRI of Kubernetes 1.37: it has no effect"
            );
        }
        Ok(Some(message))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}
