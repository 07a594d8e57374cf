//! The contract of the registry: what any store promises, through the port alone.
//!
//! A promise is a function that is told how to make a world, which has the place of one registry. `contract!` makes a
//! test of each promise for a store, so another store is another line at the end of this file. A promise that is
//! missing in the list is unused code, which the lints refuse.

mod answers;
mod blocking;
mod branch;
mod claims;
mod commit;
mod conditions;
mod copy;
mod devices;
mod eligibility;
mod exclusion;
mod fence;
mod files;
pub mod fleet;
mod heard;
mod identities;
mod imports;
mod indexes;
mod marks;
mod messages;
mod observing;
mod place;
mod results;
mod runs;
mod secrets;
pub mod transfer;
mod twins;
mod writing;

use std::path::PathBuf;

use fleetform::registry::StorePlace;
use fleetform::registry::postgres::PostgresPlace;
use fleetform::registry::sqlite::SqlitePlace;

/// Where a registry can be, and nothing is yet.
pub trait World {
    /// Returns the place of a fleet's registry: the same one for every fleet.
    fn place(&self, fleet: &str) -> Box<dyn StorePlace>;

    /// Returns true when something was made there.
    fn is_made(&self) -> bool;
}

/// Makes a world.
pub type Fresh = fn() -> Box<dyn World>;

/// A folder for a registry in a file.
pub struct SqliteWorld {
    folder: tempfile::TempDir,
}

impl SqliteWorld {
    pub fn fresh() -> Box<dyn World> {
        Box::new(SqliteWorld { folder: crate::world::folder() })
    }

    /// The folder of the registry is not there either.
    fn path(&self) -> PathBuf {
        self.folder.path().join("state/fleet.db")
    }
}

impl World for SqliteWorld {
    fn place(&self, fleet: &str) -> Box<dyn StorePlace> {
        Box::new(SqlitePlace::new(self.path(), fleet))
    }

    fn is_made(&self) -> bool {
        std::fs::read_dir(self.folder.path()).unwrap().next().is_some()
    }
}

/// An empty database of the cluster of these tests.
pub struct PostgresWorld {
    url: String,
}

impl PostgresWorld {
    pub fn fresh() -> Box<dyn World> {
        Box::new(PostgresWorld { url: crate::cluster::fresh_database() })
    }
}

impl World for PostgresWorld {
    fn place(&self, fleet: &str) -> Box<dyn StorePlace> {
        Box::new(PostgresPlace::new(&self.url, fleet).unwrap())
    }

    fn is_made(&self) -> bool {
        self.place("acme").is_there().unwrap()
    }
}

/// Makes a module of tests for a store: one for each promise.
macro_rules! contract {
    ($store:ident, $world:ident) => {
        promises! { $store, $world,
            place {
                a_place_that_does_not_exist_reads_as_empty
                reading_makes_nothing
                opening_makes_it
                the_registry_of_another_fleet_is_refused
                the_registry_of_another_fleet_is_refused_for_reading
                what_was_committed_is_there_when_it_is_opened_again
                a_reader_sees_what_is_committed_meanwhile
            }
            exclusion {
                a_second_owner_is_told_who_has_it
                who_drops_it_frees_it
                former_owners_are_listed_until_they_are_forgotten
                an_owner_that_comes_back_is_no_former_one
            }
            commit {
                each_change_is_answered_in_order_and_by_its_kind
                what_comes_to_nothing_else_is_done
                nothing_is_answered_with_nothing
                a_second_claim_of_a_run_takes_the_commit_back
                a_second_outcome_of_a_device_takes_the_commit_back
                a_second_write_of_a_device_takes_the_commit_back
                a_change_sees_those_before_it
                a_commit_that_failed_can_be_tried_without_its_mistake
            }
            fence {
                a_commit_of_an_older_epoch_is_refused
                files_of_an_older_epoch_are_refused
                an_older_epoch_is_not_entered
                who_is_refused_an_epoch_writes_nothing
                the_newer_epoch_goes_on
                an_epoch_is_entered_again
                who_has_no_lease_is_not_fenced
                an_epoch_outlives_its_store
            }
            claims {
                a_claim_is_journaled_with_all_that_it_says
                a_target_is_journaled_in_order
                a_run_is_found_once_its_claim_is_confirmed
                runs_are_in_the_order_in_which_they_were_journaled
                a_dropped_run_is_gone_and_can_be_claimed_again
                a_confirmed_run_is_not_dropped
                claim_documents_are_those_of_confirmed_claims
                the_version_of_claims_changes_whenever_claims_do
                the_version_of_claims_stays_while_claims_do
                the_version_of_claims_is_the_same_for_everybody
            }
            runs {
                a_run_starts_once_and_goes_on
                a_final_status_keeps_its_time
                a_status_that_is_not_final_has_no_time
                a_closed_run_is_found_and_not_open
                the_counts_of_an_open_run_add_up
                an_unconfirmed_run_is_open_when_its_claim_is_published
                a_forgotten_run_leaves_nothing_behind
            }
            marks {
                marks_are_sorted_and_have_the_last_attempt
                a_mark_has_the_time_at_which_the_device_was_spoken_to
                a_device_that_was_blocked_or_deleted_meanwhile_is_not_marked
                the_batch_that_was_opened_last_is_noted
                an_unmarked_device_waits_to_connect
                a_device_that_is_marked_again_waits_to_answer
                waiting_devices_are_counted_beyond_those_that_are_listed
                an_outcome_takes_the_mark
                marks_are_of_their_run
                late_answers_come_in_order_and_change_no_outcome
            }
            answers {
                an_answer_is_kept_whole_beside_its_outcome
                a_second_answer_takes_the_commit_back
                answers_are_forgotten_with_time_and_with_their_run
            }
            results {
                outcomes_come_in_order
                outcomes_are_counted_by_batch_and_reason
                a_device_that_is_deleted_meanwhile_keeps_its_name
                a_recorded_outcome_reads_back
                an_answer_says_that_its_device_is_connected
                a_device_that_was_not_reached_is_disconnected
                devices_without_an_outcome_are_pending
                pending_rows_are_omitted
                pending_rows_of_a_run_under_way_say_what_they_wait_for
                pending_rows_of_a_run_that_ended_say_what_they_were_left_in
                rows_are_those_of_a_range
                rows_have_the_names_that_devices_have_now
                rows_of_devices_far_apart_have_their_names
            }
            branch {
                a_new_registry_has_not_seen_the_branch
                a_claim_is_seen_of_the_branch
                a_tip_is_seen_of_the_branch
                runs_are_remembered_with_their_records
                a_record_without_new_shards_keeps_whose_they_are
                a_run_that_another_one_has_claimed_is_not_remembered
                published_rows_are_those_of_the_record
                published_rows_of_a_run_that_ended_are_all
                published_failures_are_failures_only
                a_run_without_a_record_has_no_published_rows
                what_was_noted_last_is_told
                what_was_seen_is_noted
                an_import_fills_the_outbox
                the_outbox_is_sorted_and_has_the_last_of_each
                what_was_delivered_leaves_the_outbox_and_is_kept
            }
            files {
                files_are_kept_in_the_place_of_older_ones
                all_files_are_kept_or_none
                files_are_sorted_and_picked
                a_visit_of_files_ends_when_it_breaks
                files_of_journaled_runs_are_left_out
                files_have_the_ids_that_they_came_with
            }
            imports {
                an_import_tells_new_updated_renamed_and_unchanged_rows
                devices_get_keys_once
                rows_that_left_the_file_are_kept
                rows_that_left_the_file_are_blocked
                rows_that_left_the_file_are_deleted
                what_is_staged_is_seen_and_not_written
                what_is_staged_is_gone_when_it_is_cleared
                what_is_staged_is_not_seen_before_it_is_laid_over
                what_is_staged_is_of_one_open_store
                a_reader_stages_what_does_not_exist_yet
                a_device_of_two_staged_files_belongs_to_the_first
                an_import_that_is_gone_gives_its_devices_up
                an_owner_that_is_not_staged_is_asked
                a_device_stays_with_an_owner_that_has_it
                a_device_moves_from_an_owner_that_has_it_no_more
                an_owner_whose_file_cannot_be_used_keeps_its_devices
                a_device_moves_between_files_that_are_staged_together
                a_rejected_row_keeps_what_left_the_file
                digests_of_imports_are_those_applied_last
                an_import_sets_what_its_spec_says
                a_line_of_iot_hub_says_all_of_a_device
                a_line_of_iot_hub_deletes_its_device
                a_row_with_the_etag_of_the_device_is_taken
                a_row_with_another_etag_is_rejected
                ids_that_differ_in_case_are_told
            }
            devices {
                devices_are_in_the_order_of_the_bytes_of_their_ids
                a_list_is_limited
                a_list_goes_on_after_an_id
                a_list_is_of_what_a_condition_selects
                a_list_is_of_an_organization
                a_list_ends_when_it_breaks
                a_device_is_got_by_its_id
                a_twin_reads_back_as_it_was_written
                a_text_with_a_null_character_reads_back
                keys_are_those_of_the_device
                a_device_without_keys_has_empty_ones
                imports_are_told_of_devices_that_have_one
                templates_are_told_of_devices_that_have_one
                versions_are_told_of_devices_that_are_there
                ids_near_are_those_in_another_case_and_the_neighbours
            }
            observing {
                an_observation_has_the_ids_in_order
                devices_that_are_alike_share_an_entry
                values_are_those_at_the_touched_paths
                a_path_through_what_is_no_object_is_absent
                a_blocked_device_is_told
                a_template_that_does_not_fit_is_told
                a_mark_counts_on_devices_of_its_templates
                paths_of_two_sections_are_looked_at_together
                a_device_that_is_no_edge_device_is_told
                a_template_job_sees_templates
                an_edge_job_sees_manifests_and_digests
                properties_without_a_place_in_the_template_are_counted
                awkward_keys_are_found
                many_values_are_told_together_and_counts_stay_exact
                devices_that_are_named_and_not_there_are_missing
                an_organization_has_the_devices_below_it_and_no_others
                each_bound_counts
                a_template_bounds_a_selection
                every_condition_counts
                devices_that_are_passed_over_are_counted
                devices_are_passed_over_within_the_bounds_only
                a_device_answers_several_questions
                a_count_is_that_of_the_observation
                a_selection_of_all_is_told
                a_selection_that_lacks_one_is_not_of_all
            }
            conditions {
                an_observation_selects_what_the_reference_selects
                a_count_selects_what_the_reference_selects
                a_list_selects_what_the_reference_selects
                selects_all_says_what_the_reference_says
                questions_select_what_the_reference_selects
                conditions_beside_each_other_select_what_the_reference_selects
                staged_devices_are_selected_as_the_reference_selects
            }
            eligibility {
                a_blocked_device_cannot_be_started
                a_device_that_is_gone_cannot_be_commanded
                a_device_that_is_gone_is_left_to_the_write
                a_device_that_is_no_edge_device_cannot_get_a_manifest
                a_device_of_a_template_that_does_not_fit_cannot_be_started
                a_device_is_told_once_and_for_the_first_reason
                only_ordinals_of_the_range_are_told
                only_blocked_ordinals_of_the_range_are_told
                devices_far_apart_in_a_large_fleet_are_told
                blocked_devices_far_apart_in_a_large_fleet_are_told
                a_large_target_is_told_as_a_whole
            }
            writing {
                a_write_changes_only_what_differs
                a_write_ends_with_the_failure_that_is_one_too_many
                a_section_that_would_get_too_large_is_left_alone
                a_write_that_failed_says_why
                a_patch_is_that_of_the_reference
                a_write_of_awkward_keys_is_found_again
                a_write_of_tags_changes_tags
                a_write_of_cloud_properties_changes_them
                a_write_of_the_reported_section_changes_that_one_only
                a_template_is_assigned
                an_edge_manifest_is_assigned_with_its_digest
                a_written_device_that_must_acknowledge_is_marked
                a_device_that_needed_no_write_is_done
                a_mark_is_written_to_devices_of_its_templates
                a_write_counts_attempts
                marks_of_desired_properties_are_no_tags
                tags_and_desired_properties_are_written_together
            }
            heard {
                a_device_that_connects_is_provisioned
                a_device_that_disconnects_keeps_its_last_activity
                a_report_is_merged
                a_device_that_reports_is_connected
                reports_are_answered_in_order
                a_device_that_is_gone_has_no_section
                a_device_that_is_blocked_reports_in_vain
                a_section_does_not_outgrow_a_twin
                what_was_so_before_is_no_activity
                a_session_outlives_its_connection_and_no_device
                the_newest_connections_are_kept
            }
            twins {
                a_merge_patch_changes_what_it_names
                a_whole_section_takes_the_place_of_the_old_one
                a_write_of_tags_leaves_the_desired_properties
                a_write_of_the_same_properties_counts_and_tells_nothing
                a_stale_etag_writes_nothing
                a_device_that_is_not_there_has_no_twin
                a_twin_does_not_outgrow_its_sections
                secrets_survive_what_does_not_touch_them
                what_is_written_at_once_is_found_by_conditions
                awkward_sections_are_told_as_they_are_kept
            }
            identities {
                a_device_is_made_once
                a_device_is_made_with_its_twin
                an_identity_is_changed_by_its_etag
                an_identity_is_deleted_by_its_etag
                a_device_that_is_made_anew_is_of_another_generation
                a_device_of_an_import_has_a_generation
                a_change_of_the_status_is_noted
                identities_come_in_order_and_in_pages
                devices_are_counted_whatever_makes_and_deletes_them
            }
            messages {
                messages_wait_in_their_order
                a_queue_takes_no_more_than_its_limit
                a_message_is_handed_over_a_few_times
                an_acknowledged_message_is_gone
                a_queue_is_purged
                a_twin_comes_with_its_identity_and_its_messages
                a_deleted_device_takes_its_messages_along
            }
            secrets {
                a_key_is_made_once_and_stays
                registries_have_different_keys
                a_report_of_its_secret_is_marked
                a_keyless_copy_has_neither_key_nor_marks
            }
            blocking {
                blocking_tells_who_was_not_blocked
                unblocking_tells_who_was_blocked
                deleting_tells_who_was_there
                a_deleted_device_takes_its_keys_along
                a_deleted_device_is_imported_as_a_new_one
                what_changes_admissions_is_counted
            }
            indexes {
                indexes_change_nothing_in_what_is_selected
                what_would_be_done_about_indexes_is_what_is_done
                every_path_has_an_index_or_is_left_out
                indexes_that_nobody_wants_are_dropped
                making_way_never_fails
                making_way_changes_nothing_in_what_is_selected
            }
            copy {
                a_copy_has_what_the_registry_has
                what_is_written_to_a_copy_stays_there
                what_is_written_after_the_copy_is_not_in_it
                a_copy_of_what_does_not_exist_can_be_written
                a_copy_outlives_its_registry
            }
            transfer {
                every_row_reads_back_in_another_store
                awkward_texts_and_numbers_read_back
                work_goes_on_after_rows_were_taken
                a_registry_that_has_something_takes_no_rows
                an_error_of_the_source_leaves_nothing
                an_error_of_the_sink_ends_the_rows
                a_copy_waits_for_its_identity
                another_row_is_a_difference
                rows_that_contradict_each_other_are_found
            }
        }
    };
}

macro_rules! promises {
    ($store:ident, $world:ident, $($noun:ident { $($promise:ident)* })*) => {
        mod $store {
            $(mod $noun {
                $(#[test]
                fn $promise() {
                    crate::contract::$noun::$promise(crate::contract::$world::fresh);
                })*
            })*
        }
    };
}

contract!(sqlite, SqliteWorld);
contract!(postgres, PostgresWorld);
