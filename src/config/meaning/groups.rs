//! `vrrp_sync_group`.

use crate::config::blocks::Node;
use crate::config::meaning::{Context, name};
use crate::config::model::Notifications;
use crate::vrrp::GroupConfig;

/// A group whose block was read.
#[derive(Clone, Debug)]
pub struct GroupDraft {
    /// What it says; members may not be there.
    pub group: GroupConfig,
    /// Whom it tells.
    pub notifications: Notifications,
    /// `smtp_alert`, if it is there.
    pub smtp_alert: Option<bool>,
}

impl Context<'_> {
    pub(super) fn read_sync_group(&mut self, node: &Node<'_>) {
        let own = node.word(0);
        let mut draft =
            GroupDraft { group: GroupConfig::new(own, &[]), notifications: Notifications::default(), smtp_alert: None };
        draft.notifications.tells_priority = self.defaults.tells_priority;
        let mut has_list = false;
        for child in &node.children {
            let value = child.value(0);
            match child.name() {
                "group" if has_list => {
                    let text = format!("Group list already specified for sync group {own}");
                    self.messages.flaw_at(child.at(), text);
                }
                "group" => {
                    has_list = true;
                    let members = child.entries.iter().flat_map(|entry| &entry.words);
                    draft.group.members = members.map(|word| name(&word.text)).collect();
                    if child.entries.is_empty() {
                        let text = format!("Warning - sync group {own} has empty group block");
                        self.messages.flaw_at(child.at_end(), text);
                    }
                }
                "track_interface" | "track_script" | "track_file" | "track_process" | "track_bfd" => {
                    self.read_tracks(own, child, &mut draft.group.tracks);
                }
                "smtp_alert" => {
                    let text = format!("Invalid vrrp_group smtp_alert parameter {}", value.text);
                    draft.smtp_alert = self.truth(&value, text).or(draft.smtp_alert);
                }
                "global_tracking" => {
                    draft.group.tracks_globally = true;
                    let text = format!(
                        "({own}) global_tracking is deprecated. Use track_interface/script/file on the sync group"
                    );
                    self.messages.flaw_at(child.at(), text);
                }
                "sync_group_tracking_weight" => draft.group.uses_weights = true,
                "notify_priority_changes" => {
                    let text = format!(
                        "({own}) Invalid value '{}' for sync group notify_priority_changes specified",
                        value.text
                    );
                    if let Some(is_on) = self.truth(&value, text) {
                        draft.notifications.tells_priority = is_on;
                    }
                }
                _ => {
                    let about = format!("vrrp group {own}: ");
                    self.notification(&mut draft.notifications, child, &about);
                }
            }
        }
        self.group_drafts.push(draft);
    }
}
