import { XENSTORE } from '@paravirt/xen-abi';

const SPELLING = /^[A-Za-z0-9\-/_@]+$/;
const BELOW_DOMAIN = /^\/local\/domain\/\d{1,5}\//;

/** Whether a node may have this absolute name. @see docs/misc/xenstore.txt; xenstored of Xen 4.17, is_valid_nodename */
export function isNodePath(path: string, pathChars: number): boolean {
  if (!path.startsWith('/')) return false;
  return isSpelled(path, pathChars);
}

/** Whether a watch may have this name: a node's, or a special one. */
export function isWatchPath(path: string, pathChars: number): boolean {
  return (path.startsWith('/') || path.startsWith('@')) && isSpelled(path, pathChars);
}

function isSpelled(path: string, pathChars: number): boolean {
  if (path.length > 1 && path.endsWith('/')) return false;
  if (path.includes('//') || path.length >= XENSTORE.ABS_PATH_MAX || !SPELLING.test(path)) return false;
  if (path.length <= pathChars) return true;
  const domain = BELOW_DOMAIN.exec(path)?.[0].length ?? 0;
  return path.length <= domain + pathChars;
}

export function parentPath(path: string): string {
  const slash = path.lastIndexOf('/');
  return slash <= 0 ? '/' : path.slice(0, slash);
}

export function childPath(path: string, name: string): string {
  return path === '/' ? `/${name}` : `${path}/${name}`;
}

export function homePath(domid: number): string {
  return `/local/domain/${domid}`;
}
