/** The version of fio whose output formats these are: tools read it to know which fields to expect. */
export const FORMAT_VERSION = 'fio-3.33';
