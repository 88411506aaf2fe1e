/** Ends every list of references. */
export const END_OF_LIST = 0xffff_ffff;
