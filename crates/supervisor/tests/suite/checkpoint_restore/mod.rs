//! Containers that are frozen and written down by criu, and made again from that. What needs a criu that works runs in
//! the virtual machine (`scripts/test-vm.sh checkpoint_restore`).

mod hold;
mod restore;
