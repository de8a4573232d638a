// Texts of the page whose contrast to what is behind them is below 4.5 to 1 (WCAG 2.1, 1.4.3).
() => {
  const rgb = (text) => text.match(/[\d.]+/g).map(Number);
  const linear = (part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  const luminance = ([red, green, blue]) =>
    0.2126 * linear(red / 255) + 0.7152 * linear(green / 255) + 0.0722 * linear(blue / 255);
  const contrast = (...colours) => {
    const [low, high] = colours.map(luminance).sort((a, b) => a - b);
    return (high + 0.05) / (low + 0.05);
  };
  const behind = (element) => {
    const paper = rgb(getComputedStyle(element).backgroundColor);
    return paper[3] === undefined || paper[3] === 1 ? paper : behind(element.parentElement);
  };
  const says = (element) =>
    element.checkVisibility() && [...element.childNodes].some((each) => each.nodeType === Node.TEXT_NODE && each.data.trim());
  return [...document.querySelectorAll("body *")].filter(says).map((element) => {
    const style = getComputedStyle(element), paper = behind(element), opacity = Number(style.opacity);
    const ink = rgb(style.color).slice(0, 3).map((part, index) => part * opacity + paper[index] * (1 - opacity));
    return [element.textContent, element.className, contrast(ink, paper)];
  }).filter(([, , found]) => found < 4.5);
}
