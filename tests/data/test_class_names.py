from imglish.data.class_names import class_names


def test_synsets_become_words_and_other_folders_keep_their_names() -> None:
    assert class_names(["n01440764", "n02123045"]) == ("tench", "tabby")
    assert class_names(["polar_bear", "n02123045"]) == ("polar bear", "n02123045")
