# Run once, in a copy of this directory; its argument is the project's root.
# What the pages call /data is in root/data here.
here=$PWD/root
for file in caps.json script.py hostile.py report.py report.cedar stricter.cedar; do
  sed -i "s#@/#$here/#g" "$file"
done
mkdir -p root/data/secret root/data/out root/srv/repo root/warehouse root/var/log/omnibase root/var/lib/omnibase
printf 'hello\n' >root/data/allowed.txt
printf 'not for you\n' >root/data/other.txt
printf 'a,b\n1,2\n3,4\n' | tee root/data/in.csv root/data/input.csv root/data/extra.csv input.csv in.csv >/dev/null
mkdir data && cp in.csv data/
printf 'salary\n' | tee root/data/secret/x >root/data/secret/b
ln -s "$1/examples" examples
python - <<END
import sqlite3
with sqlite3.connect("root/data/app.db") as database:
    database.execute("create table orders (id integer, what text)")
    database.execute("insert into orders values (1, 'apples')")
database.close()
END
python -m venv --without-pip root/srv/venv
git -C root/srv/repo init --quiet
git -C root/srv/repo -c user.name=you -c user.email=you@example.com commit --quiet --allow-empty --message 'First things first'

omnibase registry add --name report --version 1.0.0 --owner data --uuid 0f8fad5b-d9cb-469f-a165-70867728950e \
  --script report.py --require "FILE_READ:$here/data/**" --policy report.cedar >/dev/null
cp -a registry root/srv/registry
