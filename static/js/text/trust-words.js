/** The words of the page on trust that depend on the device; all others stand in the page itself. */

export const trustWords = {
  devices: {
    ios: 'iPhone or iPad', android: 'Android', windows: 'Windows', mac: 'macOS', firefox: 'Firefox', linux: 'Linux',
  },
  device: name => `This looks like ${name}.`,
};
