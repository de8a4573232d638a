// -- What the address says:  #CASE/SERVER?filter, #CASE?filter, #server/NAME?filter, #?filter. -----
// The filter is a query of the form's fields.  All that can be opened can be linked.
function linked() {
  const [place, filter] = location.hash.slice(1).split(/\?(.*)/s);
  const parts = place.split("/");
  return { head: plain(parts[0]), server: plain(parts.slice(1).join("/")), filter: filter || "" };
}

function plain(text) {
  try { return decodeURIComponent(text); } catch { return text; }
}

const linkTo = (head, server = "") => `#${head}${server && `/${encodeURIComponent(server)}`}`;

// The filter goes along; what the link itself says of it comes first.
function withFilter(link, filter) {
  const [place, own] = link.split("?"), query = new URLSearchParams(filter);
  new URLSearchParams(own).forEach((value, name) => query.set(name, value));
  return `${place}?${query}`.replace(/\?$/, "");
}

