// Parts of `pyram-image app` that need no interpreter; app.test makes whole images.
#include <filesystem>

#include "image-builder/app/layer.h"
#include "image-builder/embedded.h"
#include "image-builder/tree/strip_rules.h"
#include "tests/image-builder/scene.h"
#include "tests/support/catch.h"
#include "tests/support/fixture.h"

namespace fs = std::filesystem;
using namespace pyram::builder;
using pyram::test::make_file;

TEST_CASE("a project is copied without what its rules name, which is listed") {
  const pyram::test::TemporaryDirectory directory;
  const fs::path from = directory / "project";
  make_file(from / "site/views.py", "12345");
  make_file(from / "site/.env", "secret");
  make_file(from / "db.sqlite3");
  make_file(from / "templates/media/page.html");
  make_file(from / "media/photo.jpg");
  make_file(from / "site.sqfs");
  make_file(from / "wanted.pem");
  fs::create_symlink("views.py", from / "site/link.py");
  fs::last_write_time(from / "site/views.py", fs::file_time_type{});

  RuleTable table = parse_rules(app_rules(), "the table");
  table.keep.emplace_back("wanted.pem");
  const LeftOut left_out = copy_by_rules(table, from, directory / "to", from / "site.sqfs");

  CHECK(left_out.files ==
        std::vector<std::pair<std::string, std::string>>{
            {"db.sqlite3", "databases"}, {"media/photo.jpg", "media"}, {"site/.env", "secrets"}});
  CHECK(left_out.results.front().name == "secrets");
  CHECK(left_out.results.front().bytes == 6);
  CHECK(fs::file_size(directory / "to/site/views.py") == 5);
  CHECK(fs::last_write_time(directory / "to/site/views.py") == fs::file_time_type{});
  CHECK(fs::read_symlink(directory / "to/site/link.py") == "views.py");
  // Only at the top is it what users upload.
  CHECK(fs::exists(directory / "to/templates/media/page.html"));
  CHECK(fs::exists(directory / "to/wanted.pem"));
  CHECK_FALSE(fs::exists(directory / "to/site.sqfs"));
  CHECK_FALSE(fs::exists(directory / "to/media"));
}

TEST_CASE("a layer's key is of what decides its content") {
  const pyram::test::TemporaryDirectory directory;
  make_file(directory / "requirements.txt", "-r more.txt\ndjango==5.2\n");
  make_file(directory / "more.txt", "six==1.16\n");
  BuildOptions options;
  options.packages.requirements = {directory / "requirements.txt"};
  options.cache = "/one";
  const std::string key = layer_key(options);
  CHECK(key.size() == 32);

  SECTION("not of where files lie") {
    options.cache = "/another";
    options.output = "/elsewhere";
    CHECK(layer_key(options) == key);
  }
  SECTION("of a requirements file that another one names") {
    make_file(directory / "more.txt", "six==1.17\n");
    CHECK(layer_key(options) != key);
  }
  SECTION("of the packages and the source") {
    BuildOptions other = options;
    other.packages.names = {"gunicorn"};
    CHECK(layer_key(other) != key);
    other = options;
    other.from = "debian:sid";
    CHECK(layer_key(other) != key);
  }
}
