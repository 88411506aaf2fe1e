/** Error numbers, positive; hypercalls return them negated. @see errno.h, XEN_ERRNO */
export const XEN_ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  ENOEXEC: 8,
  EBADF: 9,
  ECHILD: 10,
  EAGAIN: 11,
  EWOULDBLOCK: 11,
  ENOMEM: 12,
  EACCES: 13,
  EFAULT: 14,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENFILE: 23,
  EMFILE: 24,
  ENOSPC: 28,
  EROFS: 30,
  EMLINK: 31,
  EDOM: 33,
  ERANGE: 34,
  EDEADLK: 35,
  EDEADLOCK: 35,
  ENAMETOOLONG: 36,
  ENOLCK: 37,
  ENOSYS: 38,
  ENOTEMPTY: 39,
  ENODATA: 61,
  ETIME: 62,
  EBADMSG: 74,
  EOVERFLOW: 75,
  EILSEQ: 84,
  ENOTSOCK: 88,
  EMSGSIZE: 90,
  EOPNOTSUPP: 95,
  EADDRINUSE: 98,
  EADDRNOTAVAIL: 99,
  ENOBUFS: 105,
  EISCONN: 106,
  ENOTCONN: 107,
  ETIMEDOUT: 110,
  ECONNREFUSED: 111,
} as const;

/** Error numbers that are never shown to a guest. @see errno.h */
export const XEN_ERRNO_INTERNAL = {
  EINTR: 4,
  ERESTART: 85,
} as const;

/** The name of an error, `EINVAL` say. */
export type ErrnoName = keyof typeof XEN_ERRNO;
/** The number of an error, positive. */
export type Errno = (typeof XEN_ERRNO)[ErrnoName];

/** The number of a named error, positive: `errnoOf('EINVAL')` is 22. */
export function errnoOf(name: ErrnoName): Errno {
  return XEN_ERRNO[name];
}

/** The name of an error number of either sign (of two names the first: EAGAIN, EDEADLK), or `undefined` where there is none. */
export function errnoName(value: number): ErrnoName | undefined {
  const positive = Math.abs(value);
  return (Object.keys(XEN_ERRNO) as ErrnoName[]).find((name) => XEN_ERRNO[name] === positive);
}
