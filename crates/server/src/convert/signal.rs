//! Signals: CRI numbers them in an order of its own; the kernel's numbers go through the names.

use engine::Error;

use super::known;

/// What CRI's names have before those of signal(7).
const PREFIX: &str = "SIGNAL_";

/// The kernel's number of a signal; `None` if the image is to choose.
pub(crate) fn to_kernel(field: &str, number: i32) -> Result<Option<i32>, Error> {
    let signal: cri::Signal = known(field, number)?;
    let name = signal.as_str_name();
    let name = name.strip_prefix(PREFIX).unwrap_or(name);
    let name = name.replace("PLUS", "+").replace("MINUS", "-");
    Ok(base::signal::parse(&name))
}

/// CRI's number of the kernel's signal; `RUNTIME_DEFAULT` for one that CRI has no name for.
pub(crate) fn to_cri(number: i32) -> cri::Signal {
    let name = base::signal::name(number)
        .replace('+', "PLUS")
        .replace('-', "MINUS");
    cri::Signal::from_str_name(&format!("{PREFIX}{name}")).unwrap_or(cri::Signal::RuntimeDefault)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_of_cri_has_a_number_of_the_kernel() {
        assert_eq!(to_kernel("stop_signal", 0).unwrap(), None);
        for number in 1..=65 {
            let kernel = to_kernel("stop_signal", number).unwrap();
            assert!(kernel.is_some(), "{:?}", cri::Signal::try_from(number));
        }
        assert!(to_kernel("stop_signal", 66).is_err());
    }

    #[test]
    fn names_lead_to_the_kernels_numbers() {
        let pairs = [
            (cri::Signal::Sigterm, 15),
            (cri::Signal::Sigkill, 9),
            (cri::Signal::Sigusr1, 10),
            (cri::Signal::Sigrtmin, 34),
            (cri::Signal::Sigrtminplus15, 49),
            (cri::Signal::Sigrtmaxminus14, 50),
            (cri::Signal::Sigrtmax, 64),
        ];
        for (signal, number) in pairs {
            assert_eq!(
                to_kernel("stop_signal", signal.into()).unwrap(),
                Some(number)
            );
            assert_eq!(to_cri(number), signal);
        }
    }
}
