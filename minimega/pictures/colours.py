"""The colours of all pictures: Okabe and Ito 2008, told apart with any kind of colour blindness."""

BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, AMBER, YELLOW, BLACK = "#56B4E9", "#E69F00", "#F0E442", "#000000"
GREY, DARK, PALE = "#999999", "#555555", "#EEEEEE"  # not theirs
