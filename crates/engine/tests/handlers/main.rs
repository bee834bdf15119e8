//! One suite of tests over every runtime handler that this machine has: the verbs of a pod's life, in
//! order and out of it, and the engine's death in between. A handler is added by a [`Subject`] in
//! `subjects.rs` and a line in [`suites!`].

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod adopt;
mod exec;
mod life;
mod refuse;
mod subjects;
mod world;

/// Every test of the suite for each handler: `handler::test`.
macro_rules! suites {
    ($($handler:ident => [$($file:ident: $test:ident),* $(,)?];)*) => {$(
        mod $handler {
            $(#[test]
            fn $test() {
                crate::world::run(&crate::subjects::$handler(), crate::$file::$test);
            })*
        }
    )*};
}

/// The suite for the named handlers.
macro_rules! all_tests {
    ($($handler:ident),* $(,)?) => {
        suites! {$(
            $handler => [
                life: a_container_lives_from_created_to_removed,
                life: a_program_that_is_not_there_is_an_exit_and_not_a_hang,
                life: stop_gives_grace_and_then_kills,
                life: every_ending_verb_succeeds_again_and_on_what_is_not_there,
                life: a_started_container_may_be_started_again_and_an_ended_one_not,
                life: a_signal_reaches_the_first_process,
                life: limits_change_and_figures_follow,
                life: a_paused_container_stands_still,
                life: what_a_container_writes_is_in_its_log_and_in_a_new_one_after_rotation,
                life: an_attached_client_has_input_output_and_the_end,
                life: a_port_of_a_pod_is_a_flow_of_bytes,
                life: a_pod_that_is_removed_takes_its_containers_along,
                exec: a_command_gives_its_output_and_its_code,
                exec: a_command_that_is_not_there_is_refused_with_its_code,
                exec: a_command_that_takes_too_long_is_killed,
                exec: a_command_that_nobody_waits_for_is_killed,
                exec: a_command_needs_a_running_container,
                exec: a_session_has_the_callers_files_or_a_terminal,
                adopt: a_pod_outlives_its_engine_and_is_taken_over,
                adopt: what_ended_while_no_engine_was_there_is_known,
                adopt: a_pod_whose_handler_is_not_configured_any_more_says_so_and_can_be_removed,
                adopt: a_subscriber_hears_what_happens,
                adopt: a_list_reads_nothing_of_a_pod_that_has_not_changed,
                adopt: what_a_handler_left_mounted_is_gone_with_the_next_engine,
                adopt: a_sandbox_that_is_killed_is_seen_and_its_pod_can_be_removed,
                refuse: what_a_handler_lacks_is_refused_by_name_before_anything_is_made,
                refuse: an_annotation_that_is_allowed_reaches_the_runtime,
            ];
        )*}
    };
}

all_tests!(built_in, runc, crun, floe_runtime, shim, sandbox_shim);
