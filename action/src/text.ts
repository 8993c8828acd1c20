// Text from elsewhere, made fit to be shown: it can neither begin a line of its own, nor close a tag of the summary, nor
// turn the direction of what stands beside it, nor fill the log. And secrets, in every form that a log may show them in.

/** A secret shorter than this could not be masked without masking half of the log. */
export const SECRET_CHARS_MIN = 8;

const SHOWN_CHARS_MAX = 600;
/** Of a line that holds texts of others and words of ours; a person's reason stands in one. */
const LINE_CHARS_MAX = 2_000;

/** Controls, ends of lines, and marks that cannot be seen or turn the direction of letters. */
const STEERING = /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]+/g;

/** One line of limited length. */
export function plain(value: unknown, charsMax = SHOWN_CHARS_MAX): string {
    const line = text(value).replace(STEERING, " ").trim();
    return line.length > charsMax ? `${line.slice(0, charsMax)}…` : line;
}

function text(value: unknown): string {
    if (typeof value === "string") return value;
    try {
        return JSON.stringify(value) ?? "";
    } catch {
        // So deep that it cannot be written.
        return "…";
    }
}

/** A line of a message, escaped for HTML. */
export function html(value: unknown): string {
    const escapes: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
    return plain(value, LINE_CHARS_MAX).replace(/[&<>"']/g, (char) => escapes[char] ?? char);
}

/** The lines of a message in HTML: paragraphs, and what is indented as it stands. It holds no blank line, behind which a
 * summary would be read as Markdown. */
export function paragraphs(message: string): string {
    let [written, inside] = ["", ""];
    for (const line of message.split("\n").filter((line) => line.trim() !== "")) {
        const indent = /^ */.exec(line)?.[0] ?? "";
        const tag = indent === "" ? "p" : "pre";
        if (tag === inside) written += tag === "p" ? "<br>" : "\n";
        else written += `${inside && `</${inside}>`}<${tag}>`;
        written += indent + html(line);
        inside = tag;
    }
    return written + (inside && `</${inside}>`);
}

/** A table of two or more columns for the summary; cells are escaped here. */
export function table(rows: unknown[][], head?: string[]): string {
    const row = (cells: unknown[], tag: string) =>
        `<tr>${cells.map((cell) => `<${tag}>${html(plain(cell))}</${tag}>`).join("")}</tr>`;
    const lines = rows.map((cells) => row(cells, "td"));
    return `<table>${head ? row(head, "th") : ""}${lines.join("")}</table>`;
}

/** The same to people, and no command to the runner: it obeys lines that begin with `::`, and `##[` wherever it stands. */
export function unheard(text: string): string {
    return text.replaceAll("##[", "## [").replace(/^(\s*):(?=:)/gm, "$1: ");
}

/** How a secret may look in a log: itself, each of its lines, in JSON, in a URL, in Base64 at any place of a longer text.
 * GitHub's runner hides most of these by itself, others none. */
export function forms(secret: string): string[] {
    const bytes = Buffer.from(secret);
    const encoded = [0, 1, 2].map((before) => {
        const whole = Buffer.concat([Buffer.alloc(before), bytes])
            .toString("base64")
            .replace(/=+$/, "");
        // Letters that hold bits of what stands before or behind it are others each time.
        return whole.slice([0, 2, 3][before], (before + bytes.length) % 3 === 0 ? undefined : -1);
    });
    const others = [
        ...secret.split(/\r?\n/),
        JSON.stringify(secret).slice(1, -1),
        encodeURIComponent(bytes.toString()),
        ...encoded,
    ];
    return [...new Set([secret, ...others])].filter((form) => form.length >= SECRET_CHARS_MIN);
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
