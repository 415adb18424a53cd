// Tables of blocks, which come from a registry, and what is made by them.
#include "registry/block_table.h"

#include <cstdint>
#include <fstream>
#include <span>
#include <string>
#include <vector>

#include "registry/difference.h"
#include "support/error.h"
#include "support/io.h"
#include "tests/support/catch.h"
#include "tests/support/fixture.h"
#include "tests/support/image.h"

using namespace pyram::registry;
namespace fs = std::filesystem;

namespace {

BlockEntry block(std::uint64_t position, std::uint32_t length, const std::string& text) {
  return {position, length, hash_of_block(std::as_bytes(std::span(text)))};
}

std::string changed(std::string text, std::size_t at, char to) {
  text.at(at) = to;
  return text;
}

}  // namespace

TEST_CASE("a table of blocks is what it was made of, or refused") {
  const BlockTable made{.size = 12, .blocks = {block(0, 5, "a"), block(5, 7, "b")}};
  const std::string text = format_block_table(made);
  CHECK(text.size() == 32 + 2 * 20);
  const BlockTable read = parse_block_table(text);
  CHECK(read.size == 12);
  REQUIRE(read.blocks.size() == 2);
  CHECK(read.blocks[1].position == 5);
  CHECK(read.blocks[1].length == 7);
  CHECK(read.blocks[1].hash == made.blocks[1].hash);
  CHECK(parse_block_table(format_block_table({})).blocks.empty());
  for (const std::string& bad :
       {std::string(), text.substr(0, 31), text.substr(0, text.size() - 1), text + "x",
        changed(text, 0, 'x'), changed(text, 8, 2), changed(text, 12, 32), changed(text, 16, 13),
        changed(text, 23, 1), changed(text, 24, 3), changed(text, 31, '\x40'), changed(text, 32, 0),
        changed(text, 35, 1)}) {
    CHECK_THROWS_AS(parse_block_table(bad), pyram::Error);
  }
}

TEST_CASE("an image is cut where its blocks are") {
  const pyram::test::TemporaryDirectory work;
  const fs::path tree = work.path() / "tree";
  fs::create_directories(tree);
  pyram::write_file(tree / "large", pyram::test::noise(300000));
  pyram::write_file(tree / "small", "some text");
  const fs::path image =
      pyram::test::make_image(tree, work.path() / "image.sqfs", {"-b", "131072"});
  const BlockTable table = block_table_of(image);
  CHECK(table.size == fs::file_size(image));
  std::uint64_t position = 0;
  std::size_t whole_blocks = 0;
  for (const BlockEntry& each : table.blocks) {
    CHECK(each.position == position);
    position += each.length;
    if (each.length == 131072) ++whole_blocks;
  }
  CHECK(position == table.size);
  CHECK(whole_blocks == 2);
  CHECK(table.blocks.front().length == 96);
  CHECK(parse_block_table(format_block_table(table)).blocks.size() == table.blocks.size());
  pyram::write_file(image, pyram::read_file(image).substr(0, 100));
  CHECK_THROWS_AS(cut_image(image), pyram::Error);
}

TEST_CASE("an image is assembled from wherever an earlier try ended") {
  const pyram::test::TemporaryDirectory work;
  const fs::path tree = work.path() / "tree";
  fs::create_directories(tree);
  pyram::write_file(tree / "large", pyram::test::noise(300000));
  const fs::path old = pyram::test::make_image(tree, work.path() / "old.sqfs");
  pyram::write_file(tree / "other", pyram::test::noise(150000, 2));
  const fs::path image = pyram::test::make_image(tree, work.path() / "new.sqfs");
  const std::string wanted = pyram::read_file(image);
  const BlockTable table = block_table_of(image);
  std::vector<std::string> said;
  const OldBlocks blocks({work.path() / "missing", old}, table,
                         [&](const std::string& text) { said.push_back(text); });
  CHECK(said.size() == 1);
  REQUIRE(blocks.has_any());
  const auto assembled = [&](std::size_t beginning) {
    const fs::path path = work.path() / "partial";
    fs::remove(path);
    PartialFile file(path);
    file.append(std::as_bytes(std::span(wanted).first(beginning)));
    const Origin origin = assemble(table, blocks, file, [&](std::uint64_t end) {
      REQUIRE(end > file.size());
      file.append(std::as_bytes(std::span(wanted).subspan(file.size(), end - file.size())));
    });
    CHECK(pyram::read_file(path) == wanted);
    CHECK(origin.fetched + origin.copied + origin.computed == wanted.size() - beginning);
    return origin;
  };
  const Origin all = assembled(0);
  CHECK(all.copied >= 250000);
  CHECK(all.fetched >= 150000);
  for (const std::size_t beginning :
       {std::size_t{1}, std::size_t{95}, std::size_t{96}, std::size_t{5000}, std::size_t{200000},
        std::size_t{300000}, wanted.size() - 1, wanted.size()}) {
    INFO(beginning);
    (void)assembled(beginning);
  }
  // Old bytes that have changed since they were looked for are not taken.
  pyram::test::flip(old, 50000);
  CHECK(assembled(0).fetched > all.fetched);
}
