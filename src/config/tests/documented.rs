//! The page on keepalived.conf is held to the tables.

use std::path::Path;

use crate::config::blocks::keyword::{Effect, Keyword};
use crate::config::blocks::tables::TOP;

fn walk(table: &'static [Keyword], visit: &mut impl FnMut(&'static Keyword)) {
    for keyword in table {
        visit(keyword);
        walk(keyword.keywords(), visit);
    }
}

#[test]
fn every_keyword_is_documented_with_its_effect() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/keepalived-conf.md");
    let page = std::fs::read_to_string(page).expect("the page is there");
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| "))
        .map(|line| line.trim_matches('|').split(" | ").collect())
        .collect();
    let column = |index: usize| -> Vec<&str> {
        rows.iter().filter_map(|row| row.get(index)).flat_map(|cell| cell.split('`')).collect()
    };
    let (works, idle) = (column(1), column(2));
    walk(TOP, &mut |keyword| {
        let has = match keyword.effect {
            Effect::Works => works.contains(&keyword.name) || page.contains(&format!("`{}`", keyword.name)),
            Effect::Nothing(_) => idle.contains(&keyword.name),
        };
        assert!(has, "docs/keepalived-conf.md lacks {} in its column", keyword.name);
    });
}
