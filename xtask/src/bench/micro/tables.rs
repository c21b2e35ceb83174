//! What criterion measured, as tables of Markdown.

use std::collections::BTreeMap;

use super::{Key, Measured};

/// The tables of the groups whose name starts with `name`.
pub(super) fn of(measured: &BTreeMap<Key, Measured>, name: &str) -> Option<String> {
    let belongs = |group: &str| {
        let rest = group.strip_prefix(name);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['_', '/']))
    };
    let mut groups: Vec<&str> = measured.keys().map(|key| &*key[0]).collect();
    groups.dedup();
    groups.retain(|group| belongs(group));
    let title = |group: &str| {
        let title = group.strip_prefix(name).unwrap_or(group).replace(['_', '/'], " ");
        if title.trim().is_empty() {
            group.replace(['_', '/'], " ")
        } else {
            title.trim().to_owned()
        }
    };
    let (plain, crossed): (Vec<&str>, Vec<&str>) =
        groups.into_iter().partition(|group| parameters(measured, group).len() < 2);
    let mut text = String::new();
    for group in crossed {
        text += &table(measured, group, &title(group));
    }
    if !plain.is_empty() {
        text += "| | | time | × |\n|---|---|---:|---:|\n";
        for group in plain {
            text += &rows(measured, group, &title(group));
        }
        text.push('\n');
    }
    (!text.is_empty()).then_some(text)
}

fn parameters<'m>(measured: &'m BTreeMap<Key, Measured>, group: &str) -> Vec<&'m str> {
    let of_group = measured.keys().filter(|key| key[0] == group);
    let mut parameters: Vec<&str> = of_group.map(|key| &*key[2]).collect();
    parameters.sort_by_key(|parameter| size(parameter));
    parameters.dedup();
    parameters
}

/// The functions of a group, ours first: `ours`, or the one that the group's name begins with.
fn functions<'m>(measured: &'m BTreeMap<Key, Measured>, group: &str) -> Vec<&'m str> {
    let of_group = measured.keys().filter(|key| key[0] == group);
    let mut functions: Vec<&str> = of_group.map(|key| &*key[1]).collect();
    functions.dedup();
    functions.sort_by_key(|name| !is_ours(name, group));
    functions
}

fn is_ours(function: &str, group: &str) -> bool {
    function == "ours" || group.split(['/', '_']).next() == Some(function)
}

/// Functions down, parameters across, and what each takes of ours in the same column.
fn table(measured: &BTreeMap<Key, Measured>, group: &str, title: &str) -> String {
    let parameters = parameters(measured, group);
    let functions = functions(measured, group);
    let get = |function: &str, parameter: &str| {
        let key = [group, function, parameter].map(str::to_owned);
        measured.get(&key).map(|one| one.median)
    };
    let ours = functions.first().copied().filter(|first| is_ours(first, group));
    let mut text = format!(
        "| {title} | {} |\n|---|{}\n",
        parameters.join(" | "),
        "---:|".repeat(parameters.len())
    );
    for function in functions {
        let cells: Vec<String> = parameters
            .iter()
            .map(|parameter| {
                match (get(function, parameter), ours.and_then(|o| get(o, parameter))) {
                    (None, _) => "–".to_owned(),
                    (Some(own), Some(base)) if Some(function) != ours => {
                        format!("{} ({:.2}×)", time(own), own / base)
                    }
                    (Some(own), _) => time(own),
                }
            })
            .collect();
        text += &format!("| {function} | {} |\n", cells.join(" | "));
    }
    text + "\n"
}

/// The rows of a group without parameters, or with one for all.
fn rows(measured: &BTreeMap<Key, Measured>, group: &str, title: &str) -> String {
    let parameter = parameters(measured, group).first().copied().unwrap_or_default();
    let get = |function: &str| {
        let key = [group, function, parameter].map(str::to_owned);
        measured.get(&key).map_or(f64::NAN, |one| one.median)
    };
    let mut text = String::new();
    let functions = functions(measured, group);
    let base = functions.first().map_or(f64::NAN, |first| get(first));
    for (at, function) in functions.iter().enumerate() {
        let title = if at == 0 { format!("{title} {parameter}") } else { String::new() };
        let own = get(function);
        text += &format!("| {} | {function} | {} | {:.2} |\n", title.trim(), time(own), own / base);
    }
    text
}

/// Orders `64B` before `1KiB` before `1MiB`, and numbers by their value.
fn size(text: &str) -> (u64, String) {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    let unit = match text[digits.len()..].trim().chars().next() {
        Some('K' | 'k') => 1 << 10,
        Some('M') => 1 << 20,
        Some('G') => 1 << 30,
        _ => 1,
    };
    (digits.parse::<u64>().unwrap_or(0) * unit, text.to_owned())
}

/// Nanoseconds in the unit a person would choose.
pub(super) fn time(nanos: f64) -> String {
    let (value, unit) = match nanos {
        n if n < 1e3 => (n, "ns"),
        n if n < 1e6 => (n / 1e3, "µs"),
        n if n < 1e9 => (n / 1e6, "ms"),
        n => (n / 1e9, "s"),
    };
    match value {
        v if v < 10.0 => format!("{v:.2} {unit}"),
        v if v < 100.0 => format!("{v:.1} {unit}"),
        v => format!("{v:.0} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurements() -> BTreeMap<Key, Measured> {
        let one = |group: &str, function: &str, value: &str, median: f64| {
            let key = [group, function, value].map(str::to_owned);
            (key, Measured { median, low: median, high: median })
        };
        BTreeMap::from([
            one("mcache_one", "glibc", "64B", 1234.0),
            one("mcache_one", "mcache", "1KiB", 12.34),
            one("mcache_one", "mcache", "64B", 5.0),
            one("mcaches", "other", "", 1.0),
            one("poller/wait", "libc", "", 3.0),
            one("poller/wait", "ours", "", 2.0),
        ])
    }

    #[test]
    fn a_group_becomes_a_table() {
        assert_eq!(
            of(&measurements(), "mcache").unwrap(),
            "| one | 64B | 1KiB |\n|---|---:|---:|\n\
             | mcache | 5.00 ns | 12.3 ns |\n| glibc | 1.23 µs (246.80×) | – |\n\n"
        );
        assert!(of(&measurements(), "gopool").is_none());
    }

    #[test]
    fn groups_without_parameters_share_a_table() {
        assert_eq!(
            of(&measurements(), "poller").unwrap(),
            "| | | time | × |\n|---|---|---:|---:|\n\
             | wait | ours | 2.00 ns | 1.00 |\n|  | libc | 3.00 ns | 1.50 |\n\n"
        );
    }

    #[test]
    fn times_are_readable() {
        let cases = [(1.234, "1.23 ns"), (99.96, "100.0 ns"), (123.4, "123 ns"), (2.5e9, "2.50 s")];
        for (nanos, text) in cases {
            assert_eq!(time(nanos), text);
        }
    }
}
