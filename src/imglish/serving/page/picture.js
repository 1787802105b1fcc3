// A file on its way to the server: opened in the browser, made smaller only where the server would refuse it.

import { Failure } from "./api.js";

const QUALITY = 0.9; // of JPEG
const TRIES = 6;

// limits: { bytes, pixels } of the server. Returns { file, name, shown, url, width, height, note }: `shown` is
// false, and the size 0, where this browser cannot show the file; then only the server can say what it is.
export async function openPicture(file, limits) {
  const name = file.name || "pasted picture";
  if (file.size === 0) throw new Failure(`${name}: is empty.`);
  const picture = { file, name, shown: true, url: URL.createObjectURL(file), width: 0, height: 0, note: "" };
  const image = await loaded(picture.url);
  if (!image) {
    URL.revokeObjectURL(picture.url);
    if (file.size > limits.bytes) {
      throw new Failure(`${name}: has ${megabytes(file.size)}; the server takes ${megabytes(limits.bytes)}, `
        + "and this browser cannot open it to make it smaller.");
    }
    return { ...picture, shown: false, url: "" };
  }
  [picture.width, picture.height] = [image.naturalWidth, image.naturalHeight];
  if (file.size <= limits.bytes && picture.width * picture.height <= limits.pixels) return picture;
  return smaller(picture, image, limits);
}

async function loaded(url) {
  const image = new Image();
  image.src = url;
  try {
    await new Promise((resolve, reject) => Object.assign(image, { onload: resolve, onerror: reject }));
  } catch {
    return null;
  }
  return image.naturalWidth && image.naturalHeight ? image : null;
}

async function smaller(picture, image, limits) {
  const { name, width, height, file } = picture;
  let scale = Math.min(1, Math.sqrt(limits.pixels / (width * height)));
  for (let tries = 0; tries < TRIES; tries++) {
    const size = [Math.max(1, Math.floor(width * scale)), Math.max(1, Math.floor(height * scale))];
    const blob = await asJpeg(image, ...size);
    if (!blob) break;
    if (blob.size <= limits.bytes) {
      URL.revokeObjectURL(picture.url);
      const note = `${name} has ${width} × ${height} pixels and ${megabytes(file.size)}, more than the server takes `
        + `(${millions(limits.pixels)} pixels, ${megabytes(limits.bytes)}): it was scaled to ${size.join(" × ")} before it was sent.`;
      const sent = new File([blob], name, { type: "image/jpeg" });
      return { ...picture, file: sent, url: URL.createObjectURL(sent), width: size[0], height: size[1], note };
    }
    scale *= Math.min(0.9, Math.sqrt(limits.bytes / blob.size));
  }
  throw new Failure(`${name}: is larger than the server takes, and this browser could not make it smaller.`);
}

async function asJpeg(image, width, height) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const drawing = canvas.getContext("2d");
  if (!drawing) return null;
  drawing.imageSmoothingQuality = "high";
  drawing.drawImage(image, 0, 0, width, height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", QUALITY));
}

function megabytes(bytes) {
  return bytes < 1e5 ? `${Math.ceil(bytes / 1e3)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

function millions(count) {
  return count < 1e6 ? String(count) : `${(count / 1e6).toFixed(0)} million`;
}

// The first picture file of what was dropped or pasted. null where there was none.
export function firstFile(transfer) {
  const files = [...(transfer?.files ?? [])];
  return files.find((file) => file.type.startsWith("image/")) ?? files[0] ?? null;
}
