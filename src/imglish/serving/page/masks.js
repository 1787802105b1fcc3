// Masks: COCO's compressed run lengths decoded, and their outlines as paths for SVG.

// Run lengths of a compressed string: five bits a character, lowest first, with a sign; from the third run
// on, differences to the run before the last (rleFrString of COCO's maskApi.c).
export function decodeCounts(text) {
  const runs = [];
  for (let at = 0; at < text.length; ) {
    let value = 0;
    let weight = 1;
    let more = true;
    while (more) {
      if (at >= text.length) throw new RangeError("a mask breaks off");
      const bits = text.charCodeAt(at++) - 48;
      if (bits < 0 || bits > 63) throw new RangeError("a mask holds characters that no mask has");
      value += (bits & 31) * weight;
      weight *= 32;
      more = (bits & 32) !== 0;
      if (!more && bits & 16) value -= weight;
    }
    if (runs.length > 2) value += runs[runs.length - 2];
    if (value < 0) throw new RangeError("a mask has a negative run");
    runs.push(value);
  }
  return runs;
}

// The mask as 0 and 1, row by row, a step of `step` pixels apart.
// Returns { width, height, pixels }: size of what is returned, not of the picture.
export function decodeMask({ size: [height, width], counts }, step = 1) {
  const runs = decodeCounts(counts);
  if (runs.reduce((sum, run) => sum + run, 0) !== height * width) {
    throw new RangeError(`a mask does not have ${height} x ${width} pixels`);
  }
  const columns = Math.ceil(width / step);
  const rows = Math.ceil(height / step);
  const pixels = new Uint8Array(rows * columns);
  let begin = 0;
  runs.forEach((run, number) => {
    if (number % 2) markRun(pixels, begin, begin + run, { height, columns, step });
    begin += run;
  });
  return { width: columns, height: rows, pixels };
}

// Runs go down the columns of the whole mask.
function markRun(pixels, begin, end, { height, columns, step }) {
  let x = Math.ceil(Math.floor(begin / height) / step) * step;
  for (; x * height < end; x += step) {
    const top = Math.max(begin - x * height, 0);
    const bottom = Math.min(end - x * height, height);
    for (let y = Math.ceil(top / step) * step; y < bottom; y += step) pixels[(y / step) * columns + x / step] = 1;
  }
}

// The share of the picture that a mask takes.
export function maskShare({ size: [height, width], counts }) {
  return decodeCounts(counts).reduce((sum, run, number) => sum + (number % 2 ? run : 0), 0) / (height * width);
}

// The border of a mask along the edges of its pixels, as the `d` of a path to be filled by evenodd.
// Every edge between inside and outside is walked once, with the inside at its right hand.
export function outline({ width, height, pixels }, step = 1) {
  const inside = (x, y) => x >= 0 && y >= 0 && x < width && y < height && pixels[y * width + x] === 1;
  const stride = width + 1;
  const nexts = new Map(); // a corner -> the corners to which edges lead from it: one, or two where pixels touch
  const add = (from, to) => (nexts.has(from) ? nexts.get(from).push(to) : nexts.set(from, [to]));
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      if (!pixels[y * width + x]) continue;
      const corner = y * stride + x;
      if (!inside(x, y - 1)) add(corner, corner + 1);
      if (!inside(x + 1, y)) add(corner + 1, corner + 1 + stride);
      if (!inside(x, y + 1)) add(corner + 1 + stride, corner + stride);
      if (!inside(x - 1, y)) add(corner + stride, corner);
    }
  }
  let path = "";
  const at = (corner) => `${(corner % stride) * step} ${Math.floor(corner / stride) * step}`;
  for (const start of nexts.keys()) {
    while (nexts.get(start).length) {
      path += `M${at(start)}`;
      let corner = start;
      let direction = 0;
      do {
        const next = nexts.get(corner).pop();
        if (next - corner !== direction && direction !== 0) path += `L${at(corner)}`;
        direction = next - corner;
        corner = next;
      } while (corner !== start);
      path += "Z";
    }
  }
  return path;
}

export function maskPath(mask, mostPixels = 1024) {
  const step = Math.max(1, Math.ceil(Math.max(...mask.size) / mostPixels));
  return outline(decodeMask(mask, step), step);
}
