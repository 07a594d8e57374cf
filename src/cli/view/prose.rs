//! Text that is fitted to a terminal.

use super::wrapped;

/// Returns Markdown whose paragraphs are broken anew at so many columns, and as it is for `None`. What is indented,
/// such as an example, keeps its lines.
pub fn reflowed(markdown: &str, most: Option<usize>) -> String {
    if most.is_none() {
        return markdown.to_string();
    }
    let mut lines: Vec<String> = Vec::new();
    let mut is_open = false;
    for line in markdown.lines() {
        let is_apart = line.is_empty() || line.starts_with("    ") || line.starts_with('|');
        match lines.last_mut().filter(|_| is_open && !is_apart && !line.starts_with("- ")) {
            Some(paragraph) => {
                paragraph.push(' ');
                paragraph.push_str(line.trim_start());
            }
            None => lines.push(line.to_string()),
        }
        is_open = !is_apart;
    }
    let indent = |line: &str| if line.starts_with("- ") { 2 } else { 0 };
    let fit = |line: &String| if line.starts_with("    ") { line.clone() } else { wrapped(line, indent(line), most) };
    lines.iter().map(fit).collect::<Vec<_>>().join("\n")
}

/// Returns lines that are broken at spaces at so many columns, and as they are for `None`. A line that is indented,
/// such as a command to copy, keeps its length.
pub fn fitted(text: &str, most: Option<usize>) -> String {
    let fit = |line: &str| if line.starts_with(' ') { line.to_string() } else { wrapped(line, 0, most) };
    text.split('\n').map(fit).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_indented_is_copied_and_not_broken() {
        let text = "\nTo make it so in this clone:\n\n    fleetform -C somewhere apply\n";
        assert_eq!(fitted(text, None), text);
        assert_eq!(fitted(text, Some(20)), "\nTo make it so in\nthis clone:\n\n    fleetform -C somewhere apply\n");
    }

    #[test]
    fn paragraphs_are_broken_anew_and_examples_are_not() {
        let text = "One two three four\nfive.\n\n- six seven eight nine ten\n  eleven\n- twelve\n\nWrong:\n\n    a:  b c d e f g h i j k l m";
        assert_eq!(
            reflowed(text, Some(20)),
            "One two three four\nfive.\n\n- six seven eight\n  nine ten eleven\n- twelve\n\nWrong:\n\n    a:  b c d e f g h i j k l m"
        );
        assert_eq!(reflowed(text, Some(80)).lines().next(), Some("One two three four five."));
        assert_eq!(reflowed(text, None), text);
    }
}
