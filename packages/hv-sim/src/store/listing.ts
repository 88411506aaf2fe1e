import { spellPerm } from './node.ts';
import { childPath } from './paths.ts';
import type { Space } from './spaces.ts';

const ESCAPES: { readonly [char: string]: string } = { '\t': '\\t', '\n': '\\n', '\r': '\\r', '\\': '\\\\' };

/** A value as the store's tools print it: what is not printable ASCII is escaped. */
function escapeValue(value: string): string {
  return value.replace(/[^ -[\]-~]/g, (char) => {
    const code = char.charCodeAt(0);
    return ESCAPES[char] ?? (code < 8 ? `\\${code.toString(8).padStart(3, '0')}` : `\\x${code.toString(16).padStart(2, '0')}`);
  });
}

/** The nodes below `root`, a line each, as `xenstore-ls -f` prints them; `-p` adds permissions. */
export function listTree(space: Space, root: string, permissions: boolean): string {
  const lines: string[] = [];
  // A stack of what is still to come; names go on it last first.
  const stack: string[] = [];
  const push = (path: string): void => {
    const names = [...(space.get(path)?.children ?? [])];
    for (let i = names.length - 1; i >= 0; i -= 1) stack.push(childPath(path, names[i]!));
  };
  push(root);
  for (let path = stack.pop(); path !== undefined; path = stack.pop()) {
    const node = space.get(path);
    if (node === undefined) continue;
    const suffix = permissions ? `   (${node.perms.map(spellPerm).join(',')})` : '';
    lines.push(`${path} = "${escapeValue(node.value)}"${suffix}\n`);
    push(path);
  }
  return lines.join('');
}
