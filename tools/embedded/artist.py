"""Makes the artist that draws pairs, from the folders of a training run; each drawing process makes its own."""

from dataclasses import dataclass
from pathlib import Path

from transformers import CLIPTokenizer

from .concepts import all_concepts
from .pairs import PairArtist
from .photos import decoded_photos
from .prompts import PromptWriter
from .recipes import EachInTurn, RecipeBook
from .style_teacher import StyleTable
from .text_examples import words_by_concept

OTHERS = 0.15  # of the recipes, where the rest takes every look in turn
PLAIN = 0.5  # of the prompts for one concept alone, then


@dataclass(frozen=True)
class ArtistMaker:
    """`maker()`: an artist for pairs of `side` pixels over the photos and concepts of `data`, with the tokenizer of `work`.

    in_turn: most recipes ask for one look or style, each of them equally often.
    """

    data: Path
    work: Path
    side: int
    in_turn: bool = False

    def __call__(self) -> PairArtist:
        concepts = all_concepts(StyleTable(self.data))
        writer = PromptWriter(concepts, extra=words_by_concept(concepts), plain=PLAIN if self.in_turn else 0.0)
        tokenizer = CLIPTokenizer.from_pretrained(self.work / "tokenizer")
        photos = decoded_photos(self.data, self.work)
        artist = PairArtist(concepts, photos, writer=writer, tokenizer=tokenizer, side=self.side)
        if self.in_turn:
            artist.book = EachInTurn(concepts, others=RecipeBook(concepts), share=OTHERS)
        return artist
