"""A script with tests of its own, run by the standard library's `unittest`."""

import tempfile
import unittest
import unittest.mock


class Tests(unittest.IsolatedAsyncioTestCase):
    def test_file(self):
        with tempfile.NamedTemporaryFile("w+") as file:
            file.write("x")
            file.seek(0)
            self.assertEqual(file.read(), "x")

    def test_mock(self):
        with unittest.mock.patch("os.getpid", return_value=7):
            self.assertEqual(__import__("os").getpid(), 7)

    async def test_coroutine(self):
        self.assertIsNone(await unittest.mock.AsyncMock(return_value=None)())

    def test_failure(self):
        with self.assertRaises(self.failureException):
            self.assertEqual(1, 2)


unittest.main(verbosity=2)
