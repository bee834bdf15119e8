//! The program's first instructions, before those of its C library.
//!
//! `create`, `run` and `exec` must not run from a file that a container could write to, so they execute the
//! program once more from a read-only clone of its mount ([`runtime::protect_own_program`]). Done here, the
//! first of the two starts ends after five system calls: nothing has been set up yet that would be thrown
//! away. Whatever does not succeed here is tried again there, where the reason is told.
//!
//! Only for musl without position independence (`build.rs`): the code must do without thread-local storage
//! (`errno`) and without relocations, neither of which is there yet.

use std::ffi::{CStr, c_char};
use std::mem::MaybeUninit;

use syscalls::{Sysno, syscall2, syscall3, syscall5};

const SELF: &CStr = c"/proc/self/exe";
const NOTHING: &CStr = c"";
const AT_FDCWD: usize = libc::AT_FDCWD as usize;
const AT_EMPTY_PATH: usize = libc::AT_EMPTY_PATH as usize;
const OPEN_TREE_CLONE: usize = 1;
const OPEN_TREE_CLOEXEC: usize = libc::O_CLOEXEC as usize;

// The entry point of the file, by `build.rs`. The stack is as execve(2) made it, and is so again for the C
// library's `_start`; rdx is what it would call at the end.
std::arch::global_asm!(
    ".globl floe_start",
    ".type floe_start, @function",
    "floe_start:",
    "xor ebp, ebp",
    "mov rbx, rsp",
    "mov rdi, rsp",
    "and rsp, -16",
    "call {first}",
    "mov rsp, rbx",
    "xor edx, edx",
    "jmp _start",
    ".size floe_start, . - floe_start",
    first = sym first,
);

/// struct mount_attr of mount_setattr(2).
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    users: u64,
}

/// Executes the program again where it has to be. Returns if not, or if it cannot be.
///
/// # Safety
/// `stack` is what execve(2) left: the number of arguments, they, null, the environment, null.
unsafe extern "C" fn first(stack: *const usize) {
    // SAFETY: as the caller promises.
    let (count, arguments) = unsafe { (*stack, stack.add(1).cast::<*const c_char>()) };
    // SAFETY: each of `count` arguments is a string that ends in NUL.
    let word = |number: usize| unsafe { CStr::from_ptr(*arguments.add(number)) }.to_bytes();
    let concerned = (1..count).any(|number| matches!(word(number), b"create" | b"run" | b"exec"));
    if !concerned || is_read_only() {
        return;
    }
    // SAFETY: the environment follows the null behind the arguments.
    unsafe { execute_clone(arguments, arguments.add(count + 1)) };
}

/// Is the mount that the program runs from read-only?
fn is_read_only() -> bool {
    let mut found = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the path ends in NUL, and the answer has its size; zero is a valid one.
    let flags = unsafe {
        let done = syscall2(
            Sysno::statfs,
            SELF.as_ptr() as usize,
            found.as_mut_ptr() as usize,
        );
        done.map(|_| found.assume_init().f_flags)
    };
    flags.is_ok_and(|flags| flags & libc::ST_RDONLY != 0)
}

/// # Safety
/// Both lists end in null, and hold strings that end in NUL.
unsafe fn execute_clone(arguments: *const *const c_char, environment: *const *const c_char) {
    let attr = MountAttr {
        set: libc::MOUNT_ATTR_RDONLY,
        clear: 0,
        propagation: 0,
        users: 0,
    };
    let nothing = NOTHING.as_ptr() as usize;
    // SAFETY: the strings end in NUL, `attr` has the size that is stated, the lists are as the caller
    // promises; all outlive the calls. The descriptor is this function's own.
    unsafe {
        let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
        let path = SELF.as_ptr() as usize;
        let Ok(clone) = syscall3(Sysno::open_tree, AT_FDCWD, path, flags) else {
            return;
        };
        let size = size_of::<MountAttr>();
        let attr = (&raw const attr) as usize;
        if syscall5(
            Sysno::mount_setattr,
            clone,
            nothing,
            AT_EMPTY_PATH,
            attr,
            size,
        )
        .is_ok()
        {
            let (arguments, environment) = (arguments as usize, environment as usize);
            let _ = syscall5(
                Sysno::execveat,
                clone,
                nothing,
                arguments,
                environment,
                AT_EMPTY_PATH,
            );
        }
        let _ = syscalls::syscall1(Sysno::close, clone);
    }
}
