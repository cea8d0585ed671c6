// Links of the lab: #/RUN/VIEW/DETAIL?filters and #/compare/A/B.

/** The link to a view of a run. */
export function address(run, view = "overview", query = {}, ...detail) {
  const asked = new URLSearchParams(
    Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined),
  );
  const path = [run, view, ...detail].map(encodeURIComponent).join("/");
  return `#/${path}${asked.size ? `?${asked}` : ""}`;
}

export const comparison = (one, other) => `#/compare/${encodeURIComponent(one)}/${encodeURIComponent(other)}`;

/** {run, view, detail, query} of a link; `run` is null for the list, `view` "compare" for two. */
export function parsed(hash) {
  const [path, asked = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  const parts = path.split("/").filter(Boolean).map(decoded);
  const query = Object.fromEntries(new URLSearchParams(asked));
  if (parts[0] === "compare" && parts.length > 2)
    return { run: null, view: "compare", detail: parts.slice(1), query };
  return { run: parts[0] ?? null, view: parts[1] ?? "overview", detail: parts.slice(2), query };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
