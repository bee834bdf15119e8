//! gRPC's status codes, which ttrpc has too.

/// A status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Code {
    /// 1
    Cancelled,
    /// 2, and any number that gRPC does not have
    Unknown,
    /// 3
    InvalidArgument,
    /// 4
    DeadlineExceeded,
    /// 5
    NotFound,
    /// 6
    AlreadyExists,
    /// 7
    PermissionDenied,
    /// 8
    ResourceExhausted,
    /// 9
    FailedPrecondition,
    /// 10
    Aborted,
    /// 11
    OutOfRange,
    /// 12
    Unimplemented,
    /// 13
    Internal,
    /// 14
    Unavailable,
    /// 15
    DataLoss,
    /// 16
    Unauthenticated,
}

/// By their numbers, from 1 on.
const ALL: [Code; 16] = [
    Code::Cancelled,
    Code::Unknown,
    Code::InvalidArgument,
    Code::DeadlineExceeded,
    Code::NotFound,
    Code::AlreadyExists,
    Code::PermissionDenied,
    Code::ResourceExhausted,
    Code::FailedPrecondition,
    Code::Aborted,
    Code::OutOfRange,
    Code::Unimplemented,
    Code::Internal,
    Code::Unavailable,
    Code::DataLoss,
    Code::Unauthenticated,
];

impl Code {
    /// The code of that number.
    #[must_use]
    pub fn from_number(number: i32) -> Self {
        let place = usize::try_from(number).ok();
        let found = place.and_then(|number| ALL.get(number.checked_sub(1)?));
        found.copied().unwrap_or(Self::Unknown)
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> i32 {
        self as i32 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_its_number() {
        for number in 1..=16 {
            assert_eq!(Code::from_number(number).number(), number);
        }
        assert_eq!(Code::Unimplemented.number(), 12);
        for none in [0, -1, 17, i32::MAX, i32::MIN] {
            assert_eq!(Code::from_number(none), Code::Unknown);
        }
    }
}
