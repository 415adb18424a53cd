// Parts of `pyram-image app` that need no interpreter; app.test makes whole images.
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "image-builder/app/layer.h"
#include "image-builder/app/project_requirements.h"
#include "image-builder/embedded.h"
#include "image-builder/tree/strip_rules.h"
#include "support/error.h"
#include "support/io.h"
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

namespace {

// What a project's packages are asked from, with no tools but those in `tools`.
PackageRequest requirements_of(const fs::path& project, const fs::path& tools) {
  const std::string path = std::getenv("PATH");
  ::setenv("PATH", tools.c_str(), 1);
  PackageRequest packages;
  try {
    add_project_requirements(project, project.parent_path() / "locks", packages);
  } catch (...) {
    ::setenv("PATH", path.c_str(), 1);
    throw;
  }
  ::setenv("PATH", path.c_str(), 1);
  return packages;
}

void check_refused(const fs::path& project, const fs::path& tools, const std::string& words) {
  try {
    (void)requirements_of(project, tools);
    FAIL("taken");
  } catch (const pyram::Error& error) {
    INFO(error.what());
    CHECK(std::string(error.what()).find(words) != std::string::npos);
  }
}

}  // namespace

TEST_CASE("a project's lock file is used, else its requirements") {
  const pyram::test::TemporaryDirectory directory;
  const fs::path project = directory / "project";
  const fs::path tools = directory / "tools";
  fs::create_directories(tools);
  make_file(project / "pyproject.toml", "[project]\nname = 'site'\n");
  using Files = std::vector<fs::path>;

  SECTION("without any, the project file's dependencies") {
    const PackageRequest packages = requirements_of(project, tools);
    CHECK(packages.requirements.empty());
    CHECK(packages.projects == Files{project / "pyproject.toml"});
  }
  SECTION("requirements.txt before a tool's lock file") {
    make_file(project / "uv.lock");
    make_file(project / "requirements.txt", "six\n");
    const PackageRequest packages = requirements_of(project, tools);
    CHECK(packages.requirements == Files{project / "requirements.txt"});
    CHECK(packages.projects == Files{project / "pyproject.toml"});
  }
  SECTION("pylock.toml before all") {
    make_file(project / "requirements.txt", "six\n");
    make_file(project / "pylock.toml");
    const PackageRequest packages = requirements_of(project, tools);
    CHECK(packages.requirements == Files{project / "pylock.toml"});
    CHECK(packages.projects.empty());
  }
  SECTION("a tool's lock file, by the tool") {
    make_file(project / "poetry.lock");
    make_file(tools / "poetry", "#!/bin/sh\necho \"$PWD: $*\"\n");
    fs::permissions(tools / "poetry", fs::perms::owner_all);
    const PackageRequest packages = requirements_of(project, tools);
    CHECK(packages.projects.empty());
    REQUIRE(packages.requirements.size() == 1);
    CHECK(pyram::read_file(packages.requirements.front()) ==
          fs::canonical(project).native() + ": export --only main\n");
  }
  SECTION("a tool that fails, and one that isn't there") {
    make_file(project / "Pipfile.lock");
    check_refused(project, tools,
                  "the project has Pipfile.lock, and there is no pipenv here to read it; in the "
                  "project, run `pipenv requirements --hash >requirements.txt`");
    make_file(tools / "pipenv", "#!/bin/sh\necho stale >&2\nexit 1\n");
    fs::permissions(tools / "pipenv", fs::perms::owner_all);
    check_refused(project, tools, "cannot read the project's Pipfile.lock: pipenv says: stale");
  }
}
