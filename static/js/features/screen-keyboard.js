/** Where a screen keyboard covers the page instead of resizing it, the frame takes the height that is left. */

const viewport = window.visualViewport;

function fit() {
  const covered = innerHeight - viewport.height * viewport.scale;
  const root = document.documentElement;
  if (covered > 80) root.style.setProperty('--frame-height', `${Math.round(viewport.height)}px`);
  else root.style.removeProperty('--frame-height');
}

if (viewport) viewport.addEventListener('resize', fit);
