/** The scanning algorithm in plain JavaScript, as a baseline: one bit per page in words of 32, first fit from `low`. */
export class Scan {
  constructor(pages) {
    this.end = pages;
    this.words = new Uint32Array(Math.ceil(pages / 32) + 1);
    this.low = Math.ceil(Math.ceil(pages / 8) / 4096);
    this.top = Math.min(32_768, pages);
    for (let bit = 0; bit < this.low; bit++) this.words[bit >>> 5] |= 1 << (bit & 31);
  }

  isSet(bit) {
    return (this.words[bit >>> 5] >>> (bit & 31)) & 1;
  }

  next(from, flip) {
    if (from >= this.top) return this.top;
    let word = from >>> 5;
    const words = (this.top + 31) >>> 5;
    let bits = (this.words[word] ^ flip) & (-1 << (from & 31));
    while (bits === 0) {
      if (++word >= words) return this.top;
      bits = this.words[word] ^ flip;
    }
    return Math.min(this.top, word * 32 + 31 - Math.clz32(bits & -bits));
  }

  search(nr, align) {
    let at = this.low;
    while (at < this.top) {
      const border = this.next(at + 1, 0);
      const candidate = (at + align) & ~(align - 1);
      if (border < this.top ? candidate + nr < border : candidate + nr <= this.top) return candidate < this.top ? candidate : -1;
      if (border >= this.top) return -1;
      at = this.next(border + 1, -1);
    }
    return -1;
  }

  vmAlloc(nr, align = 1) {
    for (;;) {
      const found = this.search(nr, align);
      if (found >= 0) {
        for (let bit = found; bit < found + nr; bit++) this.words[bit >>> 5] |= 1 << (bit & 31);
        if (found <= this.low + 2) this.low = found + nr;
        return found;
      }
      if (this.top >= this.end) return -1;
      this.top = Math.min(this.top + 32_768, this.end);
    }
  }

  vmFree(start) {
    let bit = start;
    if (bit < this.low) {
      this.low = bit - 1;
      while (!this.isSet(this.low - 1)) this.low--;
    }
    for (; bit < this.top && this.isSet(bit); bit++) this.words[bit >>> 5] &= ~(1 << (bit & 31));
  }

  vmSize(bit) {
    return this.next(bit + 1, -1) - bit;
  }
}

/** The list of areas outside, walked from the front. */
export class List {
  constructor() {
    this.front = null;
  }

  add(va, pages) {
    this.front = { va, pages, next: this.front };
  }

  find(va) {
    for (let at = this.front; at !== null; at = at.next) if (at.va === va) return at.pages;
    return 0;
  }
}
