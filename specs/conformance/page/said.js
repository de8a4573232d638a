// -- Packed data, and what was said: unpacked a block at a time, when it is looked at. -------------
async function unpacked(text) {
  const octets = Uint8Array.from(atob(text), (each) => each.charCodeAt(0));
  const stream = new Blob([octets]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).json();
}

const blocks = [];
async function saidIn(data, row, server) {
  const packed = $("#said").textContent.split("\n"), number = Math.floor(row.number / data.block);
  blocks[number] ??= unpacked(packed[number]);
  const block = await blocks[number];
  const numbers = block.rows[row.number % data.block][server] || [], lines = [];
  for (let at = 0, index = 0; index < numbers.length; index += 2) {
    at += numbers[index];
    const [, who, connection, text] = /^(.)(\d+) (.*)$/s.exec(block.texts[numbers[index + 1]]);
    lines.push({ at, who, connection, text });
  }
  return lines;
}

// A line's time and connection can't be selected: what is copied is what was said.
function transcript(lines) {
  const several = lines.some((each) => each.connection !== "1"), place = make("pre", "", "said");
  lines.forEach(({ at, who, connection, text }) => {
    const mark = who === "-" ? "# " : `${who}: `, line = make("span", "", `line ${who === "-" ? "note" : who}`);
    line.append(make("span", `${(at / 1000).toFixed(3).padStart(7)}  `, "at"));
    if (several) line.append(make("span", `[${connection}] `, "connection"));
    line.append(make("span", mark, "mark"), octets(text), "\n");
    place.append(line);
  });
  return place;
}

// What was escaped is marked, and an ordinary end of a line is quiet.
function octets(text) {
  const place = make("span", "", "octets"), [, line, end] = /^(.*?)((?:\\r\\n)?)$/s.exec(text);
  line.split(/(\\(?:x[0-9a-f]{2}|[rnt\\]))/).forEach((part, index) => {
    if (part) place.append(index % 2 ? make("span", part, "escaped") : part);
  });
  if (end) place.append(make("span", end, "end"));
  return place;
}

