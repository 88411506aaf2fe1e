// Values are kept as one character a byte. Nearly all are ASCII, where that is the text itself.

export function isAscii(text: string): boolean {
  for (let i = 0; i < text.length; i += 1) if (text.charCodeAt(i) > 0x7f) return false;
  return true;
}

/** Text to one character a UTF-8 byte. Undefined for half a surrogate pair. */
export function textToBytes(text: string): string | undefined {
  if (isAscii(text)) return text;
  try {
    return encodeURIComponent(text).replace(/%([0-9A-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
  } catch {
    return undefined;
  }
}

/** One character a byte to text; bytes that are no UTF-8 stay as they are. */
export function bytesToText(bytes: string): string {
  try {
    return decodeURIComponent(bytes.replace(/[%\x80-\xff]/g, (char) => `%${char.charCodeAt(0).toString(16).padStart(2, '0')}`));
  } catch {
    return bytes;
  }
}
