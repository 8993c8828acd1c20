// Text from elsewhere, made fit to be shown: it can neither begin a line of its own (the runner obeys lines that begin
// with `::`), nor close a tag of the summary, nor fill the log.

const SHOWN_CHARS_MAX = 600;

/** One line of limited length. */
export function plain(value: unknown): string {
    const text = typeof value === "string" ? value : value === undefined ? "" : String(value);
    const line = text.replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]+/g, " ").trim();
    return line.length > SHOWN_CHARS_MAX ? `${line.slice(0, SHOWN_CHARS_MAX)}…` : line;
}

/** `plain`, escaped for HTML. */
export function html(value: unknown): string {
    const escapes: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
    return plain(value).replace(/[&<>"']/g, (char) => escapes[char] ?? char);
}

/** A table of two or more columns for the summary; cells are escaped here. */
export function table(rows: unknown[][], head?: string[]): string {
    const row = (cells: unknown[], tag: string) =>
        `<tr>${cells.map((cell) => `<${tag}>${html(cell)}</${tag}>`).join("")}</tr>`;
    const lines = rows.map((cells) => row(cells, "td"));
    return `<table>${head ? row(head, "th") : ""}${lines.join("")}</table>`;
}

/** A word of the broker's closed lists (`reason`, `error`); what has another form counts as absent. */
export function word(body: unknown, name: string): string {
    return member(body, name, /^[a-z_]{1,64}$/);
}

/** A member of the broker's answer that must have a form; what has another counts as absent. */
export function member(body: unknown, name: string, form: RegExp): string {
    const value = typeof body === "object" && body !== null ? (body as Record<string, unknown>)[name] : undefined;
    return typeof value === "string" && form.test(value) ? value : "";
}
