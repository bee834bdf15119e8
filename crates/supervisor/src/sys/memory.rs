//! Memory that goes back to the kernel as soon as it is not needed.

use std::io;

use base::file::read_bounded;

/// Long pieces of memory go back to the kernel when they are freed. Left alone, glibc's allocator learns
/// from the first of them to keep up to 64 MiB for each thread, which [`trim_memory`] cannot reach; musl's
/// keeps little by itself.
pub fn keep_little_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no precondition; called before other threads are.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 256 << 10);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 1 << 20);
    }
}

/// Gives memory that is free in glibc's allocator back to the kernel; musl's does so when it is freed.
pub fn trim_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no precondition.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Gives the pages of the stack back that calls which have returned have used: a configuration that is read
/// and carried out takes many, and the loop that the supervisor waits in few. Only in its main thread.
pub(crate) fn trim_stack() {
    /// Left alone below the caller, for this call.
    const NEAR: usize = 16 << 10;
    /// As far as a supervisor's stack ever grew. Nothing else is mapped so near below a main thread's stack:
    /// the kernel keeps 128 MiB free for it to grow.
    const FAR: usize = 1 << 20;
    let here = 0_u8;
    let end = ((&raw const here).addr() - NEAR) & !4095;
    let start = std::ptr::with_exposed_provenance_mut(end - FAR);
    // SAFETY: below the stack pointer, beyond what the calls from here on use, nothing is read before it is
    // written. What is not mapped is passed over, with an error that says no more.
    unsafe {
        libc::madvise(start, FAR, libc::MADV_DONTNEED);
    }
}

/// Unmaps what was run of the program so far. A start runs much that is never needed again, and with each page of it
/// the kernel maps the fifteen beside it. They stay in the page cache, from where what is run again comes back.
///
/// # Errors
/// /proc/self cannot be read.
pub fn trim_program() -> io::Result<()> {
    for (start, length) in program()? {
        let start = std::ptr::with_exposed_provenance_mut(start);
        // SAFETY: a private mapping of the program's file that nothing writes to, nor to the file while it runs
        // (execve(2), ETXTBSY): each page comes back as it was.
        unsafe {
            libc::madvise(start, length, libc::MADV_DONTNEED);
        }
    }
    Ok(())
}

/// Where the program's instructions are, and how long they are.
fn program() -> io::Result<Vec<(usize, usize)>> {
    /// A line for each mapping, of which a program has hundreds.
    const LONGEST: u64 = 4 << 20;
    let own = std::fs::read_link("/proc/self/exe")?;
    let maps = read_bounded("/proc/self/maps".as_ref(), LONGEST)?.unwrap_or_default();
    let maps = String::from_utf8_lossy(&maps);
    let found = maps.lines().filter_map(|line| {
        let (range, line) = line.split_once(" r-xp ")?;
        let file = line.find('/').map(|at| &line[at..])?;
        let (start, end) = range.split_once('-')?;
        let at = |text| usize::from_str_radix(text, 16).ok();
        let (start, end) = (at(start)?, at(end)?);
        (own.as_os_str() == file).then_some((start, end.checked_sub(start)?))
    });
    Ok(found.collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    /// Kilobytes of the program's instructions that are mapped.
    fn mapped() -> usize {
        let (start, length) = program().unwrap()[0];
        let head = format!("{start:x}-{:x} ", start + length);
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let own = smaps.lines().skip_while(|line| !line.starts_with(&head));
        let rss = own.filter_map(|line| line.strip_prefix("Rss:")).next();
        let rss = rss.unwrap().trim().trim_end_matches(" kB");
        rss.parse().unwrap()
    }

    #[test]
    fn what_was_run_of_a_program_goes_and_comes_back() {
        let (start, length) = program().unwrap()[0];
        let memory = std::fs::File::open("/proc/self/mem").unwrap();
        let read = || {
            let mut bytes = vec![0; length];
            let from = u64::try_from(start).unwrap();
            memory.read_exact_at(&mut bytes, from).unwrap();
            bytes
        };
        let before = read();
        let all = mapped();
        assert!(all * 1024 > length / 2, "{all} of {length}");
        trim_program().unwrap();
        // Other threads have run some of it again.
        assert!(mapped() < all, "{} of {all}", mapped());
        assert!(read() == before);
    }
}
